//! A server over a file of its own, and clients of it by plain sockets.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use brasa::server::{RunningServer, Server};
use brasa::{Db, Durability, Options};

/// How long a test waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A client that sends bytes and reads replies as text.
pub struct Client<S> {
    pub stream: S,
    pub read: Vec<u8>,
}

impl Client<TcpStream> {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Client {
            stream,
            read: Vec::new(),
        }
    }
}

impl Client<UnixStream> {
    pub fn connect_unix(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Client {
            stream,
            read: Vec::new(),
        }
    }
}

impl<S: Read + Write> Client<S> {
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Sends a command and reads its reply.
    pub fn say(&mut self, line: &str) -> String {
        let words: Vec<&str> = line.split(' ').collect();
        self.send(&request(&words));
        self.reply()
    }

    pub fn fill(&mut self) -> bool {
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer) {
            Ok(0) => false,
            Ok(count) => {
                self.read.extend_from_slice(&buffer[..count]);
                true
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("{error}"),
        }
    }

    pub fn line(&mut self) -> String {
        loop {
            if let Some(end) = self.read.windows(2).position(|two| two == b"\r\n") {
                let line: Vec<u8> = self.read.drain(..end + 2).collect();
                return String::from_utf8_lossy(&line[..end]).into_owned();
            }
            assert!(self.fill(), "the server has gone");
        }
    }

    /// A reply in a line: parts in brackets, strings as they are.
    pub fn reply(&mut self) -> String {
        let line = self.line();
        let count = || line[1..].parse::<i64>().unwrap();
        match line.as_bytes()[0] {
            b'$' | b'=' => {
                let Ok(len) = usize::try_from(count()) else {
                    return "nil".to_owned();
                };
                while self.read.len() < len + 2 {
                    assert!(self.fill(), "the server has gone");
                }
                let bytes: Vec<u8> = self.read.drain(..len + 2).collect();
                String::from_utf8_lossy(&bytes[..len]).into_owned()
            }
            b'*' | b'>' | b'%' => {
                let Ok(mut len) = usize::try_from(count()) else {
                    return "nil".to_owned();
                };
                let kind = if line.starts_with('%') { "%" } else { "" };
                len *= if line.starts_with('%') { 2 } else { 1 };
                let parts: Vec<String> = (0..len).map(|_| self.reply()).collect();
                format!("{kind}[{}]", parts.join(" "))
            }
            b'_' => "nil".to_owned(),
            b':' | b'+' | b',' => line[1..].to_owned(),
            _ => line,
        }
    }

    /// Reads until the server ends the connection.
    pub fn rest(&mut self) -> String {
        while self.fill() {}
        String::from_utf8_lossy(&std::mem::take(&mut self.read)).into_owned()
    }
}

pub fn request(words: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        let word = word.as_ref();
        bytes.extend(format!("${}\r\n", word.len()).into_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// A server over a file of its own.
pub struct Served {
    pub running: Option<RunningServer>,
    pub address: SocketAddr,
    pub path: PathBuf,
    pub _directory: tempfile::TempDir,
}

impl Served {
    pub fn new(choose: impl FnOnce(Server) -> Server) -> Served {
        Served::over(Db::options(), choose)
    }

    /// Serves a file that is opened with these options, and synced when it is told to.
    pub fn over(options: Options, choose: impl FnOnce(Server) -> Server) -> Served {
        let directory = super::scratch_directory();
        let path = directory.path().join("file.brasa");
        let db = options.durability(Durability::Os).open(&path).unwrap();
        let server = Server::new(db).bind("127.0.0.1:0".parse().unwrap());
        let running = choose(server).start().unwrap();
        Served {
            address: running.local_addr().unwrap(),
            running: Some(running),
            path,
            _directory: directory,
        }
    }

    pub fn client(&self) -> Client<TcpStream> {
        Client::connect(self.address)
    }

    pub fn end(&mut self) {
        let running = self.running.take().unwrap();
        running.handle().stop();
        running.wait().unwrap();
    }
}
