//! A web server for tests: it says what it is told to, right or wrong.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};

/// What one connection is answered.
#[derive(Clone, Debug)]
pub(crate) struct Answer(Vec<u8>);

impl Answer {
    pub(crate) fn text(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

/// Gives one answer a connection, in order, and returns what was asked.
pub(crate) fn serve(answers: Vec<Answer>) -> (SocketAddr, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let mut asked = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            asked.push(read_request(&mut stream));
            // Who has heard enough hangs up.
            let _ = stream.write_all(&answer.0);
        }
        asked
    });
    (addr, server)
}

fn read_request(stream: &mut TcpStream) -> String {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        assert_eq!(stream.read(&mut byte).unwrap(), 1);
        request.extend(byte);
    }
    String::from_utf8(request).unwrap()
}
