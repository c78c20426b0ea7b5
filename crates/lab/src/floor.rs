//! The floors: what each model costs when the server does nothing else. They parse nothing and send
//! the same canned bytes to everybody, so no server that does its job can be much faster.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::process;
use std::thread;

use clap::ValueEnum;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Builder;

use crate::Failure;

/// A model without a server around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Floor {
    /// One client after another, as step 03.
    Accept,
    /// A process per connection, as step 04.
    Fork,
    /// A thread per connection, as step 05.
    Thread,
    /// Epoll and connections that persist, as step 09; with workers as step 10.
    Epoll,
    /// A task per connection, and connections that persist, as step 11.
    Async,
}

impl Floor {
    pub(crate) const ALL: [Floor; 5] =
        [Floor::Accept, Floor::Fork, Floor::Thread, Floor::Epoll, Floor::Async];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Floor::Accept => "accept",
            Floor::Fork => "fork",
            Floor::Thread => "thread",
            Floor::Epoll => "epoll",
            Floor::Async => "async",
        }
    }

    /// The number of the first step that has its model.
    pub(crate) fn step(self) -> &'static str {
        match self {
            Floor::Accept => "03",
            Floor::Fork => "04",
            Floor::Thread => "05",
            Floor::Epoll => "09",
            Floor::Async => "11",
        }
    }

    /// Whether it answers many requests on one connection.
    pub(crate) fn is_persistent(self) -> bool {
        matches!(self, Floor::Epoll | Floor::Async)
    }
}

/// Serves until it is killed. `size` is the length of the body in bytes.
pub(crate) fn serve(floor: Floor, port: u16, size: usize, workers: usize) -> Result<(), Failure> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let answer: &'static [u8] = canned_answer(floor, size).leak();
    match floor {
        Floor::Accept => {
            let listener = listener(address)?;
            loop {
                answer_once(&mut listener.accept()?.0, answer);
            }
        }
        Floor::Fork => {
            let listener = listener(address)?;
            loop {
                let (mut client, _) = listener.accept()?;
                // SAFETY: fork copies only the thread that calls it, and this process has no other.
                #[allow(unsafe_code)]
                if let ForkResult::Child = unsafe { fork() }? {
                    drop(listener);
                    answer_once(&mut client, answer);
                    process::exit(0);
                }
                while !matches!(
                    waitpid(None, Some(WaitPidFlag::WNOHANG)),
                    Ok(WaitStatus::StillAlive) | Err(_)
                ) {}
            }
        }
        Floor::Thread => {
            let listener = listener(address)?;
            loop {
                let (mut client, _) = listener.accept()?;
                thread::Builder::new().spawn(move || answer_once(&mut client, answer))?;
            }
        }
        Floor::Epoll => {
            // Each has a queue of its own, so none is left without its clients when another comes later.
            let listeners: Vec<_> =
                (0..workers).map(|_| listener(address)).collect::<Result<_, _>>()?;
            thread::scope(|scope| {
                let loops: Vec<_> = listeners
                    .iter()
                    .map(|listener| scope.spawn(|| answer_who_is_ready(listener, answer)))
                    .collect();
                // None ends but by a failure.
                loops
                    .into_iter()
                    .try_for_each(|worker| worker.join().map_err(|_| "a worker has panicked")?)
            })
        }
        Floor::Async => Builder::new_current_thread()
            .enable_io()
            .build()?
            .block_on(answer_in_tasks(listener(address)?, answer)),
    }
}

/// Who else listens there by the same means shares the clients: SO_REUSEPORT, socket(7).
fn listener(address: SocketAddr) -> Result<TcpListener, Failure> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    // What is accepted has it too: one answer, one write.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    Ok(socket.into())
}

async fn answer_in_tasks(listener: TcpListener, answer: &'static [u8]) -> Result<(), Failure> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let (mut client, _) = listener.accept().await?;
        tokio::spawn(async move {
            let mut request = [0; 4096];
            while matches!(client.read(&mut request).await, Ok(1..)) {
                if client.write_all(answer).await.is_err() {
                    break;
                }
            }
        });
    }
}

fn canned_answer(floor: Floor, size: usize) -> Vec<u8> {
    let close = if floor.is_persistent() { "" } else { "Connection: close\r\n" };
    let mut answer =
        format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n{close}\r\n").into_bytes();
    answer.resize(answer.len() + size, b'x');
    answer
}

fn answer_once(client: &mut TcpStream, answer: &[u8]) {
    if matches!(client.read(&mut [0; 4096]), Ok(1..)) {
        // A client that has gone is of no interest here.
        let _ = client.write_all(answer);
    }
}

fn answer_who_is_ready(listener: &TcpListener, answer: &[u8]) -> Result<(), Failure> {
    listener.set_nonblocking(true)?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let epoll_in = |fd: RawFd| EpollEvent::new(EpollFlags::EPOLLIN, fd as u64);
    epoll.add(listener, epoll_in(listener.as_raw_fd()))?;
    // A client by the number of its descriptor, and how much of its answer has been sent.
    let mut clients: Vec<Option<(TcpStream, usize)>> = Vec::new();
    let mut events = [EpollEvent::empty(); 1024];
    let mut request = [0; 4096];
    loop {
        let count = epoll.wait(&mut events, EpollTimeout::NONE)?;
        for event in &events[..count] {
            let fd = event.data() as RawFd;
            if fd == listener.as_raw_fd() {
                while let Ok((client, _)) = listener.accept() {
                    client.set_nonblocking(true)?;
                    let fd = client.as_raw_fd();
                    epoll.add(&client, epoll_in(fd))?;
                    clients.resize_with(clients.len().max(fd as usize + 1), || None);
                    clients[fd as usize] = Some((client, answer.len()));
                }
                continue;
            }
            let Some((client, sent)) = &mut clients[fd as usize] else { continue };
            let was_blocked = *sent < answer.len();
            match read_or_write(client, sent, answer, &mut request) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                    clients[fd as usize] = None;
                    continue;
                }
                _ => {}
            }
            let is_blocked = *sent < answer.len();
            if is_blocked != was_blocked {
                let interest = if is_blocked { EpollFlags::EPOLLOUT } else { EpollFlags::EPOLLIN };
                epoll.modify(client, &mut EpollEvent::new(interest, fd as u64))?;
            }
        }
    }
}

/// Takes a request, whatever it is, and sends as much of the answer as there is room for.
fn read_or_write(
    client: &mut TcpStream,
    sent: &mut usize,
    answer: &[u8],
    request: &mut [u8],
) -> io::Result<()> {
    if *sent == answer.len() {
        if client.read(request)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        *sent = 0;
    }
    *sent += client.write(&answer[*sent..])?;
    Ok(())
}
