//! What an agent sees of its machine besides the network: disk and workers.

use std::io::ErrorKind;
use std::sync::{Arc, Mutex};

use squall_protocol::live::{LiveDisk, LiveWorkers};
use squall_protocol::workers::Parent;
use squall_protocol::{Disk, Workers};

use crate::ground::{Ground, Seen, Simulation, in_simulation, kind, on_linux};

fn uses_disk(disk: &dyn Disk) -> Seen {
    let kind_of = |result: std::io::Result<()>| result.map_or_else(|error| kind(&error), |()| "done".to_owned());
    let content = |path: &str| disk.read(path).map_or_else(|error| kind(&error), |all| format!("{all:?}"));
    vec![
        content("config"),
        kind_of(disk.write("config", b"one")),
        kind_of(disk.append("config", b" two")),
        kind_of(disk.append("log", b"first line")),
        kind_of(disk.sync("config")),
        content("config"),
        kind_of(disk.write("config.part", b"three")),
        kind_of(disk.rename("config.part", "config")),
        content("config"),
        content("config.part"),
        kind_of(disk.rename("config.part", "config")),
        kind_of(disk.write("config", b"4")),
        content("config"),
        kind_of(disk.remove("config")),
        kind_of(disk.remove("config")),
        kind_of(disk.sync("config")),
        content("log"),
        kind_of(disk.write("work/job/output", b"deep")),
        content("work/job/output"),
    ]
}

#[test]
fn a_disk_is_a_disk() {
    let root = tempfile::tempdir().unwrap();
    let live = uses_disk(&LiveDisk::at(root.path().join("disk")).unwrap());
    let simulated = in_simulation(|ground| async move { uses_disk(&*ground.disk()) });
    assert_eq!(live, simulated);
    assert_eq!(&live[..6], ["NotFound", "done", "done", "done", "done", "b\"one two\""]);
    assert_eq!(&live[live.len() - 3..], ["b\"first line\"", "done", "b\"deep\""]);
}

#[test]
fn a_name_leads_nowhere_outside_of_a_live_disk() {
    let root = tempfile::tempdir().unwrap();
    let disk = LiveDisk::at(root.path().join("disk")).unwrap();
    for name in ["../outside", "/etc/hostname", "inside/../../outside", ""] {
        assert_eq!(disk.write(name, b"x").unwrap_err().kind(), ErrorKind::InvalidInput, "{name:?}");
        assert_eq!(disk.read(name).unwrap_err().kind(), ErrorKind::InvalidInput, "{name:?}");
    }
}

type Log = Arc<Mutex<Vec<String>>>;

/// Ends with the number that it was sent last; takes nothing more after `deaf`.
async fn works(mut parent: Box<dyn Parent>, log: Log) -> i32 {
    let mut code = 0;
    while let Some(message) = parent.receive().await {
        match std::str::from_utf8(&message).unwrap() {
            "deaf" => {
                drop(parent);
                return std::future::pending().await;
            }
            number => code = number.parse().unwrap(),
        }
    }
    log.lock().unwrap().push(format!("a worker ends with {code}"));
    code
}

async fn uses_workers(ground: impl Ground, workers: &dyn Workers, log: Log) -> Seen {
    let tell = |what: String| log.lock().unwrap().push(what);

    let mut killed = workers.start().await.unwrap();
    tell(format!("{:?}", killed.send("7".into()).await));
    killed.kill();
    tell(format!("{:?}", killed.ended().await));
    tell(format!("{:?}", killed.ended().await));
    tell(format!("{:?}", killed.send("7".into()).await));

    let mut deaf = workers.start().await.unwrap();
    tell(format!("{:?}", deaf.send("deaf".into()).await));
    ground.settle().await;
    tell(format!("{:?}", deaf.send("7".into()).await));
    deaf.kill();

    let mut left_alone = workers.start().await.unwrap();
    tell(format!("{:?}", left_alone.send("9".into()).await));
    drop(left_alone);
    ground.settle().await;
    std::mem::take(&mut log.lock().unwrap())
}

#[test]
fn a_worker_is_a_worker() {
    let live = on_linux(|ground| async move {
        let log = Log::default();
        let telling = log.clone();
        uses_workers(ground, &LiveWorkers::new(move |parent| works(parent, telling.clone())), log).await
    });
    let simulated = in_simulation(|ground: Simulation| async move {
        let log = Log::default();
        let telling = log.clone();
        let workers = ground.workers(move |parent| works(parent, telling.clone()));
        uses_workers(ground, &*workers, log).await
    });
    assert_eq!(live, simulated);
    let (done, broken) = ("Ok(())", "Err(BrokenPipe)");
    assert_eq!(live, [done, "Killed", "Killed", broken, done, broken, done, "a worker ends with 9"]);
}
