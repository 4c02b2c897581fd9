use super::kit::*;
use crate::actions::choices::Choices;
use crate::supervise::Exit;

fn first_message_is_a_v2_job(asked: &Asked) -> Option<Answer> {
    (asked.what == "GET message" && asked.before == 0).then(|| v2_job(1))
}

fn first_message_is_a_v1_job(asked: &Asked) -> Option<Answer> {
    (asked.what == "GET messages" && asked.before == 0).then(|| v1_job(1, 1))
}

fn renewals_fail_between(from: u64, to: u64) -> impl FnMut(&Asked) -> Option<Answer> + Send + Clone + 'static {
    move |asked| match asked.what.as_str() {
        "POST renewjob" | "PATCH jobrequests" if (secs(from)..secs(to)).contains(&asked.at) => {
            Some(Answer::Status(500))
        }
        _ => first_message_is_a_v2_job(asked).or_else(|| first_message_is_a_v1_job(asked)),
    }
}

#[test]
fn a_job_is_renewed_a_minute_after_each_success() {
    let bench = Bench::new(Choices::upstream(), first_message_is_a_v2_job).v2().jobs(Jobs::lasting(secs(200)));
    bench.run(secs(400));
    assert_eq!(bench.times("POST renewjob"), [0, 60, 120, 180].map(secs));
    assert_eq!(bench.ran()[0].exit, Some(Exit::Code(100)));
}

#[test]
fn one_failed_renewal_cancels_a_healthy_job_of_the_real_runner() {
    let script = renewals_fail_between(50, 130);
    for choices in [Choices::upstream(), put_back("on-renew-failure")] {
        let real = Bench::new(choices, script.clone()).v2().jobs(Jobs::lasting(secs(400)));
        real.run(secs(600));
        let ended = real.ran()[0].to.unwrap();
        assert!(ended >= secs(60) && ended < secs(121), "{ended:?}");
        assert_eq!(real.asked("POST completejob")[0].body["conclusion"], "canceled");
    }
    let repaired = Bench::new(Choices::hardened(), script).v2().jobs(Jobs::lasting(secs(400)));
    repaired.run(secs(600));
    assert_eq!(repaired.ran()[0].to, Some(secs(400)));
    assert_eq!(repaired.asked("POST completejob")[0].body["conclusion"], "succeeded");
}

#[test]
fn the_first_renewal_is_tried_six_times_and_no_worker_starts() {
    let bench = Bench::new(Choices::upstream(), renewals_fail_between(0, 600)).v1();
    bench.run(secs(300));
    let times = bench.times("PATCH jobrequests");
    assert_eq!(times.len(), 6);
    assert!(times.windows(2).all(|pair| (secs(1)..secs(10)).contains(&(pair[1] - pair[0]))));
    assert!(bench.ran().is_empty());
}

#[test]
fn v1_goes_on_five_minutes_past_its_lease_and_the_repaired_runner_stops_before() {
    let script = renewals_fail_between(1, 5_000);
    let jobs = Jobs::lasting(secs(3_000));
    for choices in [Choices::upstream(), put_back("lease-end")] {
        let real = Bench::new(choices, script.clone()).v1().jobs(jobs);
        real.run(secs(4_000));
        let ended = real.ran()[0].to.unwrap();
        // The worker of the second one watches its own lease, which ends at 900 s by what it was told.
        let (low, high) = if real.choices == Choices::upstream() { (900, 970) } else { (870, 901) };
        assert!(ended >= secs(low) && ended < secs(high), "{ended:?}");
    }
    let repaired = Bench::new(Choices::hardened(), script).v1().jobs(jobs);
    repaired.run(secs(4_000));
    assert_eq!(repaired.ran()[0].to, Some(secs(510)));
}

#[test]
fn the_listener_alone_keeps_within_the_lease() {
    let mut choices = put_back("pipe-end");
    let jobs = Jobs { on_cancel: OnCancel::Ignores, ..Jobs::lasting(secs(3_000)) };
    let script = renewals_fail_between(1, 5_000);
    let bench = Bench::new(choices.clone(), script.clone()).v2().jobs(jobs);
    bench.run(secs(4_000));
    assert_eq!((bench.ran()[0].to, bench.ran()[0].exit), (Some(secs(530)), Some(Exit::Killed)));
    choices.lease_end = crate::actions::choices::LeaseEnd::FiveMinutesPast;
    let bench = Bench::new(choices, script).v2().jobs(jobs);
    bench.run(secs(4_000));
    assert!(bench.ran()[0].to.unwrap() > secs(900));
}

#[test]
fn renewals_after_an_error_wait_and_refresh() {
    let bench = Bench::new(Choices::upstream(), renewals_fail_between(50, 400)).v1().jobs(Jobs::lasting(secs(900)));
    bench.run(secs(800));
    let times = bench.times("PATCH jobrequests");
    let failing: Vec<_> = times.iter().filter(|at| (secs(50)..secs(400)).contains(*at)).copied().collect();
    let gaps: Vec<_> = failing.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps[..5].iter().all(|gap| (secs(5)..secs(15)).contains(gap)), "{gaps:?}");
    assert!(gaps[5..].iter().all(|gap| (secs(15)..secs(30)).contains(gap)), "{gaps:?}");
    assert_eq!(bench.asked("GET ConnectionData").len(), 3 + failing.len());
    assert_eq!(bench.ran()[0].to, None, "the job is still running");
}

#[test]
fn a_worker_that_ignores_its_stop_is_killed_only_by_the_repaired_runner() {
    // The lease is given to somebody else.
    let script = |asked: &Asked| match asked.what.as_str() {
        "PATCH jobrequests" if asked.at > secs(50) => Some(exception(404, "TaskAgentJobNotFoundException")),
        _ => first_message_is_a_v1_job(asked),
    };
    let jobs = Jobs { on_cancel: OnCancel::Ignores, ..Jobs::lasting(secs(3_000)) };
    let real = Bench::new(Choices::upstream(), script).v1().jobs(jobs);
    real.run(secs(4_000));
    assert_eq!(real.ran()[0].to, Some(secs(3_000)));
    let repaired = Bench::new(Choices::hardened(), script).v1().jobs(jobs);
    repaired.run(secs(4_000));
    assert_eq!((repaired.ran()[0].to, repaired.ran()[0].exit), (Some(secs(65)), Some(Exit::Killed)));
    let flipped = Bench::new(put_back("kill-deadline"), script).v1().jobs(jobs);
    flipped.run(secs(4_000));
    assert_eq!(flipped.ran()[0].to, Some(secs(3_000)));
}

#[test]
fn a_job_whose_worker_never_took_it_is_renewed_for_ever_by_the_real_runner() {
    let jobs = Jobs { pipe: Pipe::Broken, ..Jobs::lasting(secs(20)) };
    for choices in [Choices::upstream(), put_back("dispatch-failure")] {
        let real = Bench::new(choices, first_message_is_a_v2_job).v2().jobs(jobs);
        real.run(secs(3_700));
        assert!(real.asked("POST renewjob").len() > 60);
    }
    let repaired = Bench::new(Choices::hardened(), first_message_is_a_v2_job).v2().jobs(jobs);
    repaired.run(secs(3_700));
    assert_eq!(repaired.asked("POST renewjob").len(), 1);
    assert_eq!(repaired.asked("POST completejob")[0].body["conclusion"], "failed");
}

#[test]
fn the_token_of_the_lease_goes_along_in_the_repaired_runner() {
    let sent = |choices| {
        let bench = Bench::new(choices, first_message_is_a_v2_job).v2();
        bench.run(secs(100));
        let tokens = [bench.asked("POST renewjob"), bench.asked("POST completejob")];
        tokens.map(|asked| asked[0].body.get("lockToken").cloned())
    };
    assert_eq!(sent(Choices::upstream()), [None, None]);
    assert_eq!(sent(put_back("fencing")), [None, None]);
    assert!(sent(Choices::hardened()).iter().all(|token| *token == Some(uuid::Uuid::from_u128(9).to_string().into())));
    let bench = Bench::new(Choices::upstream(), first_message_is_a_v1_job).v1();
    bench.run(secs(10));
    assert_eq!(bench.asked("PATCH jobrequests")[0].query["lockToken"], uuid::Uuid::nil().to_string());
}
