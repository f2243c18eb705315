//! The relay's switches, one by one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use yurt_testkit::relay::Relay;

const SOON: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_millis(100);

/// A server that sends every byte back.
async fn echo() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await.ok();
            });
        }
    });
    address
}

async fn round_trip(stream: &mut TcpStream) {
    stream.write_all(b"ping").await.unwrap();
    let mut back = [0; 4];
    timeout(SOON, stream.read_exact(&mut back)).await.unwrap().unwrap();
    assert_eq!(&back, b"ping");
}

#[tokio::test]
async fn it_passes_counts_and_closes() {
    let relay = Relay::start(echo().await).await;
    let mut stream = TcpStream::connect(relay.addr()).await.unwrap();
    round_trip(&mut stream).await;
    assert_eq!((relay.bytes(), relay.connections()), ((4, 4), (1, 1)));
    stream.shutdown().await.unwrap();
    assert_eq!(timeout(SOON, stream.read(&mut [0])).await.unwrap().unwrap(), 0);
}

#[tokio::test]
async fn a_held_link_is_silent_and_loses_nothing() {
    let relay = Relay::start(echo().await).await;
    let mut old = TcpStream::connect(relay.addr()).await.unwrap();
    round_trip(&mut old).await;
    relay.hold();
    old.write_all(b"late").await.unwrap();
    let mut new = TcpStream::connect(relay.addr()).await.unwrap();
    new.write_all(b"also").await.unwrap();
    let mut back = [0; 4];
    timeout(SILENCE, old.read(&mut back)).await.expect_err("silence");
    timeout(SILENCE, new.read(&mut back)).await.expect_err("silence");
    relay.heal();
    timeout(SOON, old.read_exact(&mut back)).await.unwrap().unwrap();
    assert_eq!(&back, b"late");
    timeout(SOON, new.read_exact(&mut back)).await.unwrap().unwrap();
    assert_eq!(&back, b"also");
}

#[tokio::test]
async fn a_refusing_link_resets_and_heals_on_its_port() {
    let relay = Relay::start(echo().await).await;
    let mut stream = TcpStream::connect(relay.addr()).await.unwrap();
    round_trip(&mut stream).await;
    relay.refuse().await;
    let error = timeout(SOON, stream.read(&mut [0])).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    let error = TcpStream::connect(relay.addr()).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    relay.heal();
    round_trip(&mut TcpStream::connect(relay.addr()).await.unwrap()).await;
}

#[tokio::test]
async fn each_direction_can_be_delayed() {
    let relay = Relay::start(echo().await).await;
    let mut stream = TcpStream::connect(relay.addr()).await.unwrap();
    relay.delay(Duration::from_millis(60), Duration::from_millis(40));
    let started = Instant::now();
    round_trip(&mut stream).await;
    assert!(started.elapsed() >= Duration::from_millis(100));
}

#[tokio::test]
async fn a_slow_line_is_shared_by_all() {
    let relay = Relay::start(echo().await).await;
    relay.rate(20_000);
    let started = Instant::now();
    let one = async || {
        let mut stream = TcpStream::connect(relay.addr()).await.unwrap();
        stream.write_all(&[7; 5000]).await.unwrap();
        timeout(SOON, stream.read_exact(&mut [0; 5000])).await.unwrap().unwrap();
    };
    tokio::join!(one(), one());
    assert!(started.elapsed() >= Duration::from_millis(500), "{:?}", started.elapsed());
}

#[tokio::test]
async fn stranded_connections_are_silent_and_new_ones_are_served() {
    let relay = Relay::start(echo().await).await;
    let mut old = TcpStream::connect(relay.addr()).await.unwrap();
    round_trip(&mut old).await;
    relay.strand();
    old.write_all(b"lost").await.unwrap();
    timeout(SILENCE, old.read(&mut [0; 4])).await.expect_err("silence");
    round_trip(&mut TcpStream::connect(relay.addr()).await.unwrap()).await;
    timeout(SILENCE, old.read(&mut [0; 4])).await.expect_err("silence");
}
