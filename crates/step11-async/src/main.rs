//! Step 11: a task per connection, with async and await.

use std::pin::pin;

use common::{Client, Progress, Server};
use terminal::{Options, Step};
use tokio::select;
use tokio::sync::watch;
use tokio::time::sleep_until;

use crate::stream::{TaskStream, start_tokio};

mod stream;

fn main() {
    let step = Step::with_files(env!("CARGO_PKG_NAME"), "a task per connection");
    let options = Options::parse(step.numbering("task").taking(&["--workers"]));
    let runtime = start_tokio(options);
    let server = Server::start(options).with_room_for(10_000);
    let (running, stop) = watch::channel(());

    while let Some(client) = server.accept() {
        runtime.spawn(serve(client, stop.clone()));
    }
    // New clients are refused from here on; those who are here get the answer that has begun.
    drop(running);
    server.finish();
}

/// One client, from its first byte to the last byte for it.
async fn serve(mut client: Client, mut stop: watch::Receiver<()>) {
    let Some(connection) = client.converse(TaskStream::new) else { return };
    let mut connection = connection.persistent();
    let mut alarm = pin!(sleep_until(connection.deadline().into()));
    let mut is_told = false;
    loop {
        let progress = connection.advance();
        if progress == Progress::Closed {
            return;
        }
        alarm.as_mut().reset(connection.deadline().into());
        // Here the task is put aside, until the first of the three comes.
        select! {
            () = connection.stream.ready_for(progress) => {}
            () = &mut alarm => {}
            // The channel has changed for good, so it is asked no more.
            _ = stop.changed(), if !is_told => {
                is_told = true;
                connection.finish();
            }
        }
    }
}
