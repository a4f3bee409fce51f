//! The way to an S3 server, which can be closed and cut: a TCP proxy on the loopback.

use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use strongroom_store::conformance::moto::MotoServer;

/// Connections that are open, and whether new ones are taken.
struct Traffic {
    is_open: bool,
    streams: Vec<TcpStream>,
}

pub struct Way {
    port: u16,
    traffic: Arc<Mutex<Traffic>>,
    _server: MotoServer,
}

impl Way {
    pub fn to(server: MotoServer) -> Way {
        let address = server.endpoint().strip_prefix("http://").unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let traffic = Arc::new(Mutex::new(Traffic { is_open: true, streams: Vec::new() }));
        let (taken, way) = (traffic.clone(), Way { port, traffic, _server: server });
        // It goes with the process.
        std::thread::spawn(move || {
            for here in listener.incoming().map_while(Result::ok) {
                let mut traffic = taken.lock().unwrap();
                traffic.streams.retain(|stream| stream.peer_addr().is_ok());
                if let (true, Ok(there)) = (traffic.is_open, TcpStream::connect(&address)) {
                    carry(&here, &there);
                    carry(&there, &here);
                    traffic.streams.extend([here, there]);
                }
            }
        });
        way
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Nobody gets through until it is opened.
    pub fn close(&self) {
        self.traffic.lock().unwrap().is_open = false;
        self.cut();
    }

    pub fn open(&self) {
        self.traffic.lock().unwrap().is_open = true;
    }

    /// Ends every connection where it is, in the middle of a request or an answer.
    pub fn cut(&self) {
        for stream in self.traffic.lock().unwrap().streams.drain(..) {
            // It may have ended by itself.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// Carries what comes from one to the other, to its end.
fn carry(from: &TcpStream, to: &TcpStream) {
    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Both);
    });
}
