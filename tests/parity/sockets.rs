//! What the ends of a connection see.

use futures_util::future::join;

use crate::ground::{Ground, Listens, Seen, Wire, pair, reads, same_on_both_grounds, writes};

async fn nothing_listens(ground: impl Ground) -> Seen {
    let listener = ground.listen().await;
    // Nobody accepts from it: the connection is reset as the listener closes.
    let mut waiting = ground.connect(&listener).await.unwrap();
    ground.settle().await;
    let url = listener.url();
    drop(listener);
    ground.settle().await;
    let refused = http::Request::get(url).body(squall_protocol::http::empty()).unwrap();
    let refused = tower::ServiceExt::oneshot(ground.http(), refused).await.unwrap_err();
    vec![reads(&mut waiting).await, refused.to_string()]
}
same_on_both_grounds!(
    a_closed_port_refuses_and_a_closing_one_resets_who_waits,
    nothing_listens,
    ["fails to read: ConnectionReset", "connection refused: nothing listens on the port"]
);

async fn written_without_flush(ground: impl Ground) -> Seen {
    let (mut client, mut server) = pair(&ground).await;
    vec![writes(&mut client, b"unflushed").await, reads(&mut server).await]
}
same_on_both_grounds!(what_is_written_arrives_without_a_flush, written_without_flush, ["writes", "reads unflushed"]);

async fn peer_ends(ground: impl Ground) -> Seen {
    let (mut client, mut server) = pair(&ground).await;
    server.write(b"last words").await.unwrap();
    drop(server);
    ground.settle().await;
    let mut seen = vec![reads(&mut client).await, reads(&mut client).await, reads(&mut client).await];
    seen.push(writes(&mut client, b"are you there?").await);
    ground.settle().await;
    seen.push(writes(&mut client, b"hello?").await);
    seen.push(reads(&mut client).await);
    seen
}
same_on_both_grounds!(
    the_end_of_a_peer_is_read_and_the_second_write_after_it_fails,
    peer_ends,
    ["reads last words", "reads the end", "reads the end", "writes", "fails to write: BrokenPipe", "reads the end"]
);

async fn peer_ends_with_unread_data(ground: impl Ground) -> Seen {
    let (mut client, mut server) = pair(&ground).await;
    client.write(b"nobody reads this").await.unwrap();
    ground.settle().await;
    server.write(b"last words").await.unwrap();
    ground.settle().await;
    drop(server);
    ground.settle().await;
    vec![reads(&mut client).await, reads(&mut client).await, reads(&mut client).await, writes(&mut client, b"x").await]
}
same_on_both_grounds!(
    a_peer_that_left_data_unread_resets_and_what_it_had_sent_can_be_read,
    peer_ends_with_unread_data,
    ["reads last words", "fails to read: ConnectionReset", "reads the end", "fails to write: BrokenPipe"]
);

async fn peer_resets(ground: impl Ground) -> Seen {
    let (mut client, mut server) = pair(&ground).await;
    server.write(b"buffered").await.unwrap();
    ground.settle().await;
    server.reset();
    ground.settle().await;
    let mut seen = vec![reads(&mut client).await, writes(&mut client, b"x").await];
    seen.push(writes(&mut client, b"x").await);
    seen.push(reads(&mut client).await);
    seen
}
same_on_both_grounds!(
    a_reset_lets_what_arrived_be_read_and_fails_the_next_write,
    peer_resets,
    ["reads buffered", "fails to write: ConnectionReset", "fails to write: BrokenPipe", "reads the end"]
);

async fn reader_is_reset(ground: impl Ground) -> Seen {
    let (mut client, server) = pair(&ground).await;
    let resetting = async {
        ground.settle().await;
        server.reset();
    };
    let (seen, ()) = join(reads(&mut client), resetting).await;
    vec![seen]
}
same_on_both_grounds!(a_reset_wakes_who_reads, reader_is_reset, ["fails to read: ConnectionReset"]);

async fn writer_is_reset(ground: impl Ground) -> Seen {
    let (mut client, server) = pair(&ground).await;
    let resetting = async {
        ground.settle().await;
        server.reset();
    };
    // More than any send and receive buffers hold.
    let flood = vec![0; 64 << 20];
    let (seen, ()) = join(writes(&mut client, &flood), resetting).await;
    vec![seen]
}
same_on_both_grounds!(a_reset_wakes_who_waits_for_room_to_write, writer_is_reset, ["fails to write: ConnectionReset"]);

async fn half_close(ground: impl Ground) -> Seen {
    let (mut client, mut server) = pair(&ground).await;
    client.write(b"question").await.unwrap();
    client.finish().await.unwrap();
    let mut seen = vec![writes(&mut client, b"more").await];
    ground.settle().await;
    seen.push(reads(&mut server).await);
    seen.push(reads(&mut server).await);
    seen.push(writes(&mut server, b"answer").await);
    seen.push(reads(&mut client).await);
    drop(server);
    seen.push(reads(&mut client).await);
    seen
}
same_on_both_grounds!(
    a_finished_writer_still_reads,
    half_close,
    ["fails to write: BrokenPipe", "reads question", "reads the end", "writes", "reads answer", "reads the end"]
);

async fn both_finish(ground: impl Ground) -> Seen {
    let (mut client, mut server) = pair(&ground).await;
    client.finish().await.unwrap();
    server.finish().await.unwrap();
    ground.settle().await;
    let mut seen = vec![reads(&mut client).await, reads(&mut server).await];
    drop(server);
    ground.settle().await;
    seen.push(reads(&mut client).await);
    seen
}
same_on_both_grounds!(
    two_finished_ends_part_in_order,
    both_finish,
    ["reads the end", "reads the end", "reads the end"]
);

async fn closed_with_an_answer_to_come(ground: impl Ground) -> Seen {
    let (client, mut server) = pair(&ground).await;
    drop(client);
    ground.settle().await;
    let mut seen = vec![reads(&mut server).await, writes(&mut server, b"answer").await];
    ground.settle().await;
    seen.push(writes(&mut server, b"more").await);
    seen
}
same_on_both_grounds!(
    an_answer_to_who_has_gone_breaks_the_pipe,
    closed_with_an_answer_to_come,
    ["reads the end", "writes", "fails to write: BrokenPipe"]
);

async fn finishing_after_a_reset(ground: impl Ground) -> Seen {
    let (mut client, server) = pair(&ground).await;
    server.reset();
    ground.settle().await;
    client.finish().await.unwrap();
    vec![reads(&mut client).await]
}
same_on_both_grounds!(
    finishing_a_connection_that_was_reset_does_nothing,
    finishing_after_a_reset,
    ["fails to read: ConnectionReset"]
);
