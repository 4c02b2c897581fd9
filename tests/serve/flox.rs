//! The publisher of files, its archive and its administration.

use http::Method;
use serde_json::{Value, json};

use crate::client;
use crate::program::Program;

#[tokio::test]
async fn a_file_has_its_digest_and_is_replaced_by_its_publisher_alone() {
    let program = Program::start("flox-download", &["--set", "size=5000", "--set", "rate=1000000"]);
    let text = |at: &Value| at.as_str().unwrap().to_owned();
    let (credentials, admin) = (program.ready["credentials"].clone(), program.ready["admin"].clone());
    let get = |url: String, headers: Vec<(&'static str, String)>| async move {
        client::send_with(Method::GET, &url, &headers, String::new()).await
    };
    let versions = get(text(&credentials["versions_url"]), Vec::new()).await.expect(200);
    assert_eq!(versions["TarballsVersion"], credentials["version"]);
    let whole = get(text(&credentials["file_url"]), Vec::new()).await;
    assert_eq!((whole.status, whole.body.len()), (200, 5_000));
    let rest = get(text(&credentials["file_url"]), vec![("range", "bytes=4990-".to_owned())]).await;
    assert_eq!((rest.status, &rest.body[..]), (206, &whole.body[4_990..]));
    assert_eq!(get(text(&credentials["file_url"]), vec![("range", "bytes=5000-".to_owned())]).await.status, 416);
    let digest = get(text(&credentials["digest_url"]), Vec::new()).await;
    assert_eq!(digest.body, text(&credentials["sha256"]));
    let publish = |token: String| {
        let (url, body) = (text(&admin["url"]) + "/publish", json!({"version": credentials["version"]}).to_string());
        async move {
            let headers = [("authorization", format!("Bearer {token}"))];
            client::send_with(Method::POST, &url, &headers, body).await
        }
    };
    assert_eq!(publish("junk".to_owned()).await.status, 401);
    let replaced = publish(text(&admin["token"])).await.expect(200);
    assert_ne!(replaced["sha256"], credentials["sha256"]);
    assert_eq!(get(text(&credentials["digest_url"]), Vec::new()).await.body, text(&replaced["sha256"]));
    assert_eq!(
        get(text(&credentials["archive_url"]), Vec::new()).await.body,
        whole.body,
        "the archive forgets nothing"
    );
    assert_eq!(program.interrupt("INT").code, Some(0));
}
