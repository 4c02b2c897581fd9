use proptest::prelude::*;

use super::*;
use crate::fakes::garbage;

/// Every route that takes a body or a name. The first has the credential, those from `message` on the queue's token.
const ROUTES: [(&str, &str); 14] = [
    ("POST", "/api/v3/actions/runner-registration"),
    ("POST", "/tenant/_apis/runtime/runnerscalesets"),
    ("GET", "/tenant/_apis/runtime/runnerscalesets/{}"),
    ("PATCH", "/tenant/_apis/runtime/runnerscalesets/{}"),
    ("DELETE", "/tenant/_apis/runtime/runnerscalesets/{}"),
    ("POST", "/tenant/_apis/runtime/runnerscalesets/{}/sessions"),
    ("PATCH", "/tenant/_apis/runtime/runnerscalesets/1/sessions/{}"),
    ("DELETE", "/tenant/_apis/runtime/runnerscalesets/1/sessions/{}"),
    ("POST", "/tenant/_apis/runtime/runnerscalesets/{}/generatejitconfig"),
    ("GET", "/tenant/_apis/distributedtask/pools/0/agents/{}"),
    ("DELETE", "/tenant/_apis/distributedtask/pools/0/agents/{}"),
    ("POST", "/tenant/_apis/runtime/runnerscalesets/{}/acquirejobs"),
    ("DELETE", "/tenant/message/{}/{}"),
    ("PUT", "/tenant/{}"),
];

fn bodies() -> impl Strategy<Value = Vec<u8>> {
    garbage::bodies(&[
        "[{}]",
        "{\"name\":7}",
        "{\"ownerName\":[]}",
        "{\"name\":\"\"}",
        "[\"x\"]",
        "{\"runner_event\":\"register\",\"url\":\"\"}",
        "{\"labels\":3}",
    ])
}

fn names() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("-1".to_owned()),
        Just("99999999999999999999".to_owned()),
        Just("%ff%00".to_owned()),
        Just(uuid::Uuid::from_u128(7).to_string()),
        "[a-z][a-z0-9]{0,8}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn garbage_is_refused_in_the_service_s_own_words(route in 0..ROUTES.len(), name in names(), body in bodies()) {
        let (method, path) = ROUTES[route];
        let room = room(|parameters| parameters.second_delete = SecondDelete::NotFound);
        room.run(async {
            let admin = room.admin().await;
            let session = open(&room, &admin).await.expect(200);
            let (queue, _) = queue(&session);
            let token = if path.contains("message") || path.contains("acquirejobs") { &queue } else { &admin };
            let answer = room.call(method.parse().unwrap(), &path.replace("{}", &name), token, body).await;
            let status = answer.status.as_u16();
            assert!((400..500).contains(&status), "{status} {}", answer.body);
            assert!(answer.headers["content-type"].to_str().unwrap().starts_with("application/json"));
            let said = if path.starts_with("/api") { &answer.body["message"] } else { &answer.body["typeName"] };
            assert!(said.as_str().is_some_and(|said| !said.is_empty()), "{}", answer.body);
            assert!(open(&room, &admin).await.expect(409)["message"].as_str().unwrap().contains("active session"));
        });
    }

    #[test]
    fn nobody_is_served_without_a_token(route in 0..ROUTES.len() - 1, token in "[ -~]{0,30}", body in bodies()) {
        let (method, path) = ROUTES[route];
        let room = room(|_| ());
        room.run(async {
            let answer = room.call(method.parse().unwrap(), &path.replace("{}", "1"), &token, body).await;
            assert_eq!(answer.status.as_u16(), 401);
        });
    }
}

#[test]
fn oversized_bodies_are_refused() {
    let room = room(|parameters| parameters.body_limit = 100);
    room.run(async {
        let admin = room.admin().await;
        room.call(Method::POST, SETS, &admin, vec![b' '; 101]).await.expect_error(413, "HttpException");
    });
}
