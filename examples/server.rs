//! A program that keeps its data in a brasa file and lets redis-cli look into it: `cargo run --features server --example server`.
//!
//! It serves the file on a free port, writes through the library, reads back over the wire, and ends.

use std::io::{Read, Write};
use std::net::TcpStream;

use brasa::server::Server;
use brasa::{Db, Durability};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let db = Db::options()
        .durability(Durability::Os) // the server says when it is synced
        .open(directory.path().join("data.brasa"))?;
    let server = Server::new(db.clone())
        .bind("127.0.0.1:0".parse()?)
        .durability(Durability::default()) // each second
        .start()?;
    let address = server.local_addr().ok_or("it listens on no address")?;
    println!("redis-cli -p {}", address.port());

    db.set("chave_1", "Relou Uourdi")?;
    let mut client = TcpStream::connect(address)?;
    client.write_all(b"*2\r\n$3\r\nGET\r\n$7\r\nchave_1\r\n")?;
    let expected = b"$12\r\nRelou Uourdi\r\n";
    let mut reply = vec![0; expected.len()];
    client.read_exact(&mut reply)?;
    println!("{}", reply.escape_ascii());
    assert_eq!(reply, expected);

    server.handle().stop();
    server.wait()?;
    Ok(())
}
