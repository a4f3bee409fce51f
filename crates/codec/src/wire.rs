//! Bytes read with bounds, written plainly: little-endian numbers, LEB128 varints, length-prefixed byte strings.

/// Bytes that do not follow the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed {what}")]
pub struct Malformed {
    /// What was being read: `footer`, `file row`.
    pub what: &'static str,
}

/// Reads a byte slice from front to back. Every method fails rather than reading past the end.
#[derive(Debug, Clone)]
pub struct WireReader<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> WireReader<'a> {
    /// Reads `bytes`, which are meant to be a `what`.
    pub fn new(bytes: &'a [u8], what: &'static str) -> Self {
        WireReader { rest: bytes, what }
    }

    /// The error for the thing being read.
    pub fn malformed(&self) -> Malformed {
        Malformed { what: self.what }
    }

    /// Bytes not read yet.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Fails unless everything was read.
    pub fn end(&self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.malformed()) }
    }

    /// The next `count` bytes.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(self.malformed())?;
        self.rest = rest;
        Ok(taken)
    }

    /// The next `N` bytes, by value.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(self.malformed())?;
        self.rest = rest;
        Ok(*taken)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// A little-endian `u32`.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    /// A little-endian `u64`.
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    /// An unsigned LEB128 number, in its shortest form.
    pub fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits || (byte == 0 && shift > 0) {
                return Err(self.malformed());
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.malformed())
    }

    /// A varint that fits 32 bits.
    pub fn varint32(&mut self) -> Result<u32, Malformed> {
        let value = self.varint()?;
        u32::try_from(value).map_err(|_| self.malformed())
    }

    /// A varint count of things that take at least `least` bytes each: never more than the rest could hold.
    pub fn count(&mut self, least: usize) -> Result<usize, Malformed> {
        let count = self.varint()?;
        usize::try_from(count)
            .ok()
            .filter(|count| count.checked_mul(least.max(1)).is_some_and(|bytes| bytes <= self.rest.len()))
            .ok_or(self.malformed())
    }

    /// A varint length, then that many bytes.
    pub fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let count = self.count(1)?;
        self.take(count)
    }
}

/// Appends a varint.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a varint length and the bytes.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_have_one_spelling() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            let mut reader = WireReader::new(&out, "number");
            assert_eq!(reader.varint(), Ok(value));
            assert_eq!(reader.end(), Ok(()));
        }
        let too_long = [0xff; 11];
        for bad in [
            &[][..],
            &[0x80],
            &[0x80, 0x00],
            &too_long,
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02],
        ] {
            assert!(WireReader::new(bad, "number").varint().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_count_cannot_promise_more_than_there_is() {
        let mut out = Vec::new();
        put_varint(&mut out, u64::MAX);
        assert!(WireReader::new(&out, "list").count(1).is_err());
        assert!(WireReader::new(&[3, 1, 2], "list").count(1).is_err());
        assert_eq!(WireReader::new(&[2, 1, 2], "list").count(1), Ok(2));
    }
}
