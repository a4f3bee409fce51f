//! Messages on a connection, one at a time.
//!
//! `postgres-protocol` reads and writes messages; it has no word for `CopyBothResponse`, the one by which a stream of WAL
//! begins, and takes any length for possible. Both are added here. A row of a COPY is one message, and may have a gigabyte:
//! [`Wire::receive_copy`] hands it on in pieces, as they arrive.
//!
//! **Invariants**: no bytes make this module panic; a message longer than [`LONGEST`] ends the connection before it is
//! read, unless it is a row that is read in pieces. [`Wire::receive`] and [`Wire::receive_copy`] may be dropped at any moment:
//! what had arrived is kept for the next call.

use std::fmt;
use std::io;
use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};
use postgres_protocol::message::backend::{ErrorFields, Header, Message};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_postgres::fallible_iterator::FallibleIterator;

/// The longest message a server has reason to send: WAL comes in pieces of 128 KiB (`MAX_SEND_SIZE`), a timeline's
/// history has a line for each ancestor.
const LONGEST: i32 = 4 << 20;

/// How long the system may take to accept a few hundred bytes.
const SENT_WITHIN: Duration = Duration::from_secs(60);

/// `CopyBothResponse`.
const COPY_BOTH: u8 = b'W';

/// `CopyData`.
const COPY_DATA: u8 = b'd';

/// A message's tag and length.
const HEADER: usize = 5;

/// Room for what a COPY sends between two looks at it.
const COPY_ROOM: usize = 256 << 10;

/// What a connection runs over: a socket, plain or with TLS around it.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A connection, as messages.
pub(crate) struct Wire {
    stream: Box<dyn Stream>,
    incoming: BytesMut,
    /// Bytes that are still to come of the row that [`Wire::receive_copy`] is handing on.
    row_left: usize,
    /// What is to be sent next.
    pub(crate) outgoing: BytesMut,
}

/// One message of the server's.
pub(crate) enum Incoming {
    /// One that the library knows.
    Message(Message),
    /// Both sides send from now on.
    CopyBoth,
}

impl Wire {
    pub(crate) fn new(stream: Box<dyn Stream>) -> Wire {
        Wire { stream, incoming: BytesMut::new(), row_left: 0, outgoing: BytesMut::new() }
    }

    /// The next message.
    pub(crate) async fn receive(&mut self) -> io::Result<Incoming> {
        loop {
            if let Some(message) = self.buffered()? {
                return Ok(message);
            }
            self.incoming.reserve(64 << 10);
            if self.stream.read_buf(&mut self.incoming).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn buffered(&mut self) -> io::Result<Option<Incoming>> {
        let Some(header) = Header::parse(&self.incoming)? else { return Ok(None) };
        if header.len() > LONGEST {
            let text = format!("a message of {} bytes, which no server sends here", header.len());
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        if header.tag() != COPY_BOTH {
            return Ok(Message::parse(&mut self.incoming)?.map(Incoming::Message));
        }
        // The tag is not part of the length.
        let total = header.len().unsigned_abs() as usize + 1;
        if self.incoming.len() < total {
            return Ok(None);
        }
        self.incoming.advance(total);
        Ok(Some(Incoming::CopyBoth))
    }

    /// Waits for bytes of a COPY's rows and hands on what there is of them, each piece with whether its row ends with it.
    /// Comes back with the message if something else follows.
    pub(crate) async fn receive_copy(
        &mut self,
        take: &mut (impl FnMut(&[u8], bool) + Send),
    ) -> io::Result<Option<Message>> {
        loop {
            if self.take_rows(take)? {
                return Ok(None);
            }
            if self.row_left == 0
                && let Some(Incoming::Message(message)) = self.buffered()?
            {
                return Ok(Some(message));
            }
            self.incoming.reserve(COPY_ROOM);
            if self.stream.read_buf(&mut self.incoming).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Hands on what has arrived of rows; whether that was anything.
    fn take_rows(&mut self, take: &mut impl FnMut(&[u8], bool)) -> io::Result<bool> {
        let mut at = 0;
        loop {
            let arrived = &self.incoming[at..];
            if self.row_left == 0 {
                match Header::parse(arrived)? {
                    Some(header) if header.tag() == COPY_DATA => {
                        // The length counts itself.
                        self.row_left = (header.len().unsigned_abs() as usize).saturating_sub(4);
                        at += HEADER;
                        if self.row_left == 0 {
                            take(&[], true);
                        }
                        continue;
                    }
                    _ => break,
                }
            }
            let piece = &arrived[..arrived.len().min(self.row_left)];
            if piece.is_empty() {
                break;
            }
            self.row_left -= piece.len();
            at += piece.len();
            take(piece, self.row_left == 0);
        }
        self.incoming.advance(at);
        Ok(at > 0)
    }

    /// Sends bytes of rows, cut anywhere. However long the server takes: it may be writing a checkpoint.
    pub(crate) async fn send_copy(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = u32::try_from(bytes.len() + 4).map_err(|_| io::ErrorKind::InvalidInput)?;
        self.outgoing.put_u8(COPY_DATA);
        self.outgoing.put_u32(length);
        self.outgoing.put_slice(bytes);
        self.stream.write_all(&self.outgoing).await?;
        self.outgoing.clear();
        Ok(())
    }

    /// What has arrived meanwhile, without waiting for it.
    pub(crate) async fn glance(&mut self) -> io::Result<Option<Incoming>> {
        match tokio::time::timeout(Duration::ZERO, self.receive()).await {
            Ok(received) => received.map(Some),
            Err(_) => Ok(None),
        }
    }

    /// Sends what was put into [`Wire::outgoing`].
    pub(crate) async fn send(&mut self) -> io::Result<()> {
        let sending = async {
            self.stream.write_all(&self.outgoing).await?;
            self.stream.flush().await
        };
        tokio::time::timeout(SENT_WITHIN, sending).await.map_err(|_| io::ErrorKind::TimedOut)??;
        self.outgoing.clear();
        Ok(())
    }
}

/// What the server says against something.
#[derive(Debug)]
pub(crate) struct Said {
    /// SQLSTATE.
    pub(crate) code: String,
    /// The function of the server's source that raised it.
    pub(crate) routine: String,
    text: String,
}

impl Said {
    /// Reads the fields of an error; those that cannot be read are left out, and others' bytes replaced.
    pub(crate) fn read(mut fields: ErrorFields<'_>) -> Said {
        let mut said = Said { code: String::new(), routine: String::new(), text: String::new() };
        let mut detail = None;
        while let Ok(Some(field)) = fields.next() {
            let value = String::from_utf8_lossy(field.value_bytes()).into_owned();
            match field.type_() {
                b'C' => said.code = value,
                b'R' => said.routine = value,
                b'M' => said.text = value,
                b'D' => detail = Some(value),
                _ => {}
            }
        }
        if let Some(detail) = detail {
            said.text = format!("{} ({detail})", said.text);
        }
        said
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Said {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wire(bytes: &[u8]) -> Wire {
        Wire::new(Box::new(io::Cursor::new(bytes.to_vec())))
    }

    #[tokio::test]
    async fn messages_come_one_by_one() {
        let mut wire = wire(b"W\0\0\0\x07\0\0\0d\0\0\0\x05kZ\0\0\0\x05I");
        assert!(matches!(wire.receive().await, Ok(Incoming::CopyBoth)));
        assert!(matches!(wire.receive().await, Ok(Incoming::Message(Message::CopyData(_)))));
        assert!(matches!(wire.receive().await, Ok(Incoming::Message(Message::ReadyForQuery(_)))));
        assert_eq!(wire.receive().await.err().unwrap().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn rows_come_in_pieces_and_end_where_they_end() {
        let mut bytes = b"d\0\0\0\x07a\tb".to_vec();
        bytes.extend(b"d\0\0\0\x04d\0\x0f\x42\x44");
        bytes.extend(vec![b'x'; 1_000_000]);
        bytes.extend(b"c\0\0\0\x04");
        let mut wire = wire(&bytes);
        let (mut rows, mut pieces) = (vec![Vec::new()], 0);
        let mut take = |piece: &[u8], ends: bool| {
            pieces += 1;
            rows.last_mut().unwrap().extend_from_slice(piece);
            if ends {
                rows.push(Vec::new());
            }
        };
        let done = loop {
            if let Some(message) = wire.receive_copy(&mut take).await.unwrap() {
                break message;
            }
        };
        assert!(matches!(done, Message::CopyDone));
        assert_eq!(rows, [b"a\tb".to_vec(), Vec::new(), vec![b'x'; 1_000_000], Vec::new()]);
        assert!(pieces > 4, "{pieces}");
        // One that ends in the middle of a row.
        let mut short = Wire::new(Box::new(io::Cursor::new(bytes[..500].to_vec())));
        while let Ok(nothing) = short.receive_copy(&mut |_, _| ()).await {
            assert!(nothing.is_none());
        }
    }

    #[tokio::test]
    async fn nonsense_ends_the_connection_and_never_panics() {
        for bytes in [
            &b"HTTP/1.1 400 Bad Request"[..],
            b"d\xff\xff\xff\xff",
            b"d\x7f\xff\xff\xff",
            b"W\0\0\0\x03",
            b"W\x40\0\0\0",
            b"E\0\0\0\x06Mx",
            b"R\0\0\0\x04",
            b"",
        ] {
            let mut wire = wire(bytes);
            let mut copying = self::wire(bytes);
            while copying.receive_copy(&mut |_, _| ()).await.is_ok() {}
            // The one message that is whole has fields that are not.
            if let Ok(Incoming::Message(Message::ErrorResponse(body))) = wire.receive().await {
                assert_eq!(Said::read(body.fields()).to_string(), "");
            }
            assert!(wire.receive().await.is_err(), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(tag in prop::sample::select(b"RSKZTDECdcWNGHv".to_vec()), length in 0u8..40, rest: Vec<u8>) {
            let mut bytes = vec![tag, 0, 0, 0, length];
            bytes.extend(rest);
            let mut wire = wire(&bytes);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            while let Ok(message) = runtime.block_on(wire.receive()) {
                if let Incoming::Message(Message::ErrorResponse(body)) = message {
                    Said::read(body.fields());
                }
            }
        }
    }
}
