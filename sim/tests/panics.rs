//! Panics inside of a world are not printed; this test has its process to itself, because the hook is the process's.

use std::panic;
use std::sync::atomic::{AtomicU32, Ordering};

use squall_sim::trace::Keep;
use squall_sim::{Halt, SimTime, run};

static PRINTED: AtomicU32 = AtomicU32::new(0);

#[test]
fn a_panic_of_the_code_under_test_is_told_and_not_printed() {
    panic::set_hook(Box::new(|_| {
        PRINTED.fetch_add(1, Ordering::Relaxed);
    }));
    let ended = run(1, Keep::Digest, SimTime::from_secs(1), |world| {
        world.spawn("careless", async { panic!("on purpose") });
    });
    assert!(matches!(ended.halt, Halt::Panic { message, .. } if message.starts_with("on purpose (")));
    assert_eq!(PRINTED.load(Ordering::Relaxed), 0);
    let furnishing = panic::catch_unwind(|| {
        run(1, Keep::Digest, SimTime::from_secs(1), |_| panic!("while the world is furnished"));
    });
    assert!(furnishing.is_err());
    assert_eq!(PRINTED.load(Ordering::Relaxed), 1, "a panic outside of the code under test is printed as ever");
}
