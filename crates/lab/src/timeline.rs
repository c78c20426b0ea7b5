//! Eight clients at once, one of them slow: who waits for whom, as one bar a client.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::Failure;
use crate::contender::{Contender, Lab};
use crate::server::Running;

const CLIENTS: usize = 8;
/// The third one to come.
const SLOW: usize = 2;
/// Much more than the kernel keeps between server and client, so that the server is busy with a client
/// for about as long as the client takes.
const FILE_SIZE: usize = 8 * 1024 * 1024;
/// What a client keeps unread, and how much it takes at a time, in bytes.
const RECEIVE_BUFFER: u32 = 64 * 1024;
const SIP: usize = 128 * 1024;
const PAUSE: Duration = Duration::from_millis(4);
const SLOW_PAUSE: Duration = Duration::from_millis(20);
/// The clients come one after another, this far apart.
const STAGGER: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(60);

/// One client's visit, in seconds from the start.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Visit {
    /// Of the server.
    pub(crate) name: String,
    pub(crate) client: usize,
    pub(crate) is_slow: bool,
    pub(crate) asked_s: f64,
    pub(crate) first_byte_s: f64,
    pub(crate) last_byte_s: f64,
}

/// What happened on one server.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Timeline {
    pub(crate) name: String,
    pub(crate) visits: Vec<Visit>,
}

pub(crate) async fn record(lab: &Lab, contender: &Contender) -> Result<Timeline, Failure> {
    let site = TempDir::new()?;
    fs::write(site.path().join("file.bin"), vec![b'x'; FILE_SIZE])?;
    let lab = Lab { root: site.path().to_owned(), ..lab.clone() };
    let server = Running::start(contender, &lab, FILE_SIZE as u64, &[]).await?;
    let start = Instant::now();
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let (address, name) = (server.address, contender.name.clone());
        clients.spawn(async move {
            sleep(STAGGER * number as u32).await;
            let visit = timeout(PATIENCE, visit(address, name, number, start));
            visit.await.map_err(|_| Failure::from("a client waited for a minute"))?
        });
    }
    let mut visits = clients.join_all().await.into_iter().collect::<Result<Vec<_>, Failure>>()?;
    visits.sort_by_key(|visit| visit.client);
    Ok(Timeline { name: contender.name.clone(), visits })
}

async fn visit(
    address: SocketAddr,
    name: String,
    number: usize,
    start: Instant,
) -> Result<Visit, Failure> {
    let is_slow = number == SLOW;
    let since_start = || start.elapsed().as_secs_f64();
    let mut stream = connect(address).await?;
    stream
        .write_all(b"GET /file.bin HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await?;
    let asked_s = since_start();
    let mut bytes = vec![0; SIP];
    let mut received = stream.read(&mut bytes).await?;
    let first_byte_s = since_start();
    let mut next_pause = SIP;
    while received < FILE_SIZE {
        if received >= next_pause {
            next_pause += SIP;
            sleep(if is_slow { SLOW_PAUSE } else { PAUSE }).await;
        }
        match stream.read(&mut bytes).await? {
            0 => return Err(format!("the answer ended after {received} bytes").into()),
            length => received += length,
        }
    }
    Ok(Visit {
        name,
        client: number + 1,
        is_slow,
        asked_s,
        first_byte_s,
        last_byte_s: since_start(),
    })
}

async fn connect(address: SocketAddr) -> Result<TcpStream, Failure> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    Ok(socket.connect(address).await?)
}
