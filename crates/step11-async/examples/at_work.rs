//! What one would use at work: hyper speaks HTTP, and tower-http's ServeDir serves the folder.

use std::io;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use terminal::{Options, Step, shutdown};
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::select;
use tokio::task::{spawn, spawn_blocking};
use tokio::time::{sleep, timeout};
use tower_http::services::ServeDir;

fn main() -> io::Result<()> {
    let step = Step::with_files("at_work", "hyper, and tower-http's ServeDir");
    let options = Options::parse(step.taking(&["--workers"]));
    let mut runtime = Builder::new_multi_thread();
    runtime.worker_threads(options.workers).enable_all().build()?.block_on(serve(options))
}

async fn serve(options: &'static Options) -> io::Result<()> {
    let listener = TcpListener::bind(options.address).await;
    let listener = listener.unwrap_or_else(|error| options.exit_cannot_listen(&error));
    options.announce(listener.local_addr()?);
    let site = TowerToHyperService::new(ServeDir::new(options.root()));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(options.timeout);
    let clients = GracefulShutdown::new();
    let mut stop = spawn_blocking(|| shutdown::wait_for(&[], None));
    loop {
        let client = select! {
            client = listener.accept() => client,
            _ = &mut stop => break,
        };
        match client {
            Ok((socket, _)) => {
                // Head and body leave in two writes, and the second must not wait for the client's
                // word that the first has come: 40 ms on a persistent connection.
                let _ = socket.set_nodelay(true);
                let connection = http.serve_connection(TokioIo::new(socket), site.clone());
                spawn(clients.watch(connection));
            }
            // No descriptor, perhaps; the next client may have more luck.
            Err(_) => sleep(options.tick()).await,
        }
    }
    drop(listener);
    let _ = timeout(options.timeout, clients.shutdown()).await;
    Ok(())
}
