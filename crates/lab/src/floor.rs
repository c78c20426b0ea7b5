//! The floors: what each model costs when the server does nothing else. They parse nothing and send
//! the same canned bytes to everybody, so no server that does its job can be much faster.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::process;
use std::thread;

use clap::ValueEnum;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{Backlog, listen, setsockopt, sockopt};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

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
    /// One thread and epoll, connections that persist, as step 09.
    Epoll,
}

/// Serves until it is killed. `size` is the length of the body in bytes.
pub(crate) fn serve(floor: Floor, port: u16, size: usize) -> Result<(), Failure> {
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    listen(&listener, Backlog::new(4096)?)?;
    setsockopt(&listener, sockopt::TcpNoDelay, &true)?;
    let answer = canned_answer(floor, size);
    match floor {
        Floor::Accept => loop {
            answer_once(&mut listener.accept()?.0, &answer);
        },
        Floor::Fork => loop {
            let (mut client, _) = listener.accept()?;
            // SAFETY: fork copies only the thread that calls it, and this process has no other.
            #[allow(unsafe_code)]
            if let ForkResult::Child = unsafe { fork() }? {
                drop(listener);
                answer_once(&mut client, &answer);
                process::exit(0);
            }
            while !matches!(
                waitpid(None, Some(WaitPidFlag::WNOHANG)),
                Ok(WaitStatus::StillAlive) | Err(_)
            ) {}
        },
        Floor::Thread => {
            let answer: &'static [u8] = answer.leak();
            loop {
                let (mut client, _) = listener.accept()?;
                thread::Builder::new().spawn(move || answer_once(&mut client, answer))?;
            }
        }
        Floor::Epoll => answer_who_is_ready(&listener, &answer),
    }
}

fn canned_answer(floor: Floor, size: usize) -> Vec<u8> {
    let close = if floor == Floor::Epoll { "" } else { "Connection: close\r\n" };
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
