//! A client that is told no more than the ready line says.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{Method, Request, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use squall_protocol::jwt::{Algorithm, PrivateKey, Signer};
use tokio::net::TcpStream;

pub struct Client {
    credentials: Value,
    admin: Value,
    pub key: PrivateKey,
}

pub struct Answer {
    pub status: u16,
    pub body: Bytes,
}

impl Answer {
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {:?}", self.body))
    }

    /// The body, after the status has been checked.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{:?}", self.body);
        if self.body.is_empty() { Value::Null } else { self.json() }
    }
}

impl Client {
    pub fn of(ready: &Value) -> Self {
        let (credentials, admin) = (ready["credentials"].clone(), ready["admin"].clone());
        let key = PrivateKey::from_pem(credentials["private_key_pem"].as_str().unwrap()).unwrap();
        Self { credentials, admin, key }
    }

    pub fn credential(&self, name: &str) -> &str {
        self.credentials[name].as_str().unwrap()
    }

    pub fn broker(&self) -> &str {
        self.credential("server_url_v2")
    }

    pub fn tenant(&self, path: &str) -> String {
        self.credential("tenant_url").trim_end_matches('/').to_owned() + path
    }

    /// The URLs of the service by their ids, found in both ways.
    pub async fn locations(&self) -> BTreeMap<String, String> {
        let found = self.send(Method::OPTIONS, &self.tenant("/_apis/"), None, None).await.expect(200);
        let by_options = by_id(&found["value"], ["id", "area", "resourceName", "routeTemplate"]);
        let query = "/_apis/connectionData?connectOptions=1&lastChangeId=-1&lastChangeId64=-1";
        let found = self.send(Method::GET, &self.tenant(query), None, None).await.expect(200);
        let found = &found["locationServiceData"]["serviceDefinitions"];
        assert_eq!(by_options, by_id(found, ["identifier", "serviceType", "displayName", "relativePath"]));
        by_options
    }

    /// A token for the agent, by an assertion that its key signed.
    pub async fn token(&self) -> String {
        let (client, endpoint) = (self.credential("client_id"), self.credential("authorization_url"));
        let signer = Signer::new(self.key.clone(), Algorithm::Rs256);
        let (now, life) = (jiff::Timestamp::now(), std::time::Duration::from_secs(300));
        let assertion = signer.assertion(client, endpoint, now, life, &mut squall::serve::entropy());
        let kind = "urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer";
        let form = format!("grant_type=client_credentials&client_assertion_type={kind}&client_assertion={assertion}");
        self.form(&form).await.expect(200)["access_token"].as_str().unwrap().to_owned()
    }

    pub async fn form(&self, form: &str) -> Answer {
        let request = Request::post(self.credential("authorization_url"))
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded; charset=utf-8");
        exchange(request, form.to_owned().into()).await.expect("an answer")
    }

    /// What a creation of a session says.
    pub fn session(&self) -> Value {
        let agent =
            json!({"id": self.credentials["agent_id"], "name": self.credential("agent_name"), "version": "3.0.0"});
        json!({"ownerName": "RUNNER", "agent": agent, "useFipsEncryption": false,
               "encryptionKey": {"encrypted": false, "value": ""}})
    }

    pub async fn administer(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let url = self.admin["url"].as_str().unwrap().to_owned() + path;
        self.send(method, &url, self.admin["token"].as_str(), body).await
    }

    pub async fn jobs(&self) -> Vec<Value> {
        self.administer(Method::GET, "/jobs", None).await.expect(200).as_array().unwrap().clone()
    }

    pub async fn send(&self, method: Method, url: &str, token: Option<&str>, body: Option<Value>) -> Answer {
        self.try_send(method, url, token, body).await.expect("an answer")
    }

    /// Nothing when the connection ends before an answer.
    pub async fn try_send(
        &self,
        method: Method,
        url: &str,
        token: Option<&str>,
        body: Option<Value>,
    ) -> Option<Answer> {
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let kind = "application/json; charset=utf-8; api-version=5.1-preview.1";
        exchange(request(method, url, token).header(header::CONTENT_TYPE, kind), body.into()).await
    }

    /// Sends plain bytes, as logs are.
    pub async fn send_bytes(&self, url: &str, token: &str, body: &'static str) -> Answer {
        let request = request(Method::POST, url, Some(token)).header(header::CONTENT_TYPE, "application/octet-stream");
        exchange(request, body.into()).await.expect("an answer")
    }
}

/// Sends JSON with these headers.
pub async fn send_with(method: Method, url: &str, headers: &[(&'static str, String)], body: String) -> Answer {
    let request = Request::builder().method(method).uri(url).header(header::CONTENT_TYPE, "application/json");
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, value));
    exchange(request, body.into()).await.expect("an answer")
}

fn request(method: Method, url: &str, token: Option<&str>) -> http::request::Builder {
    let request = Request::builder().method(method).uri(url);
    token.into_iter().fold(request, |request, token| request.header(header::AUTHORIZATION, format!("bearer {token}")))
}

/// One exchange on a connection of its own.
async fn exchange(request: http::request::Builder, body: Bytes) -> Option<Answer> {
    let uri: Uri = request.uri_ref().expect("it has one").clone();
    let authority = uri.authority().expect("an absolute URL").as_str().to_owned();
    let stream = TcpStream::connect(&authority).await.expect("it listens");
    let (mut send, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
    let connection = tokio::spawn(connection);
    let path = uri.path_and_query().expect("a path").as_str();
    let request = request.uri(path).header(header::HOST, authority).body(Full::new(body)).expect("a request");
    let (parts, body) = send.send_request(request).await.ok()?.into_parts();
    let body = body.collect().await.ok()?.to_bytes();
    connection.abort();
    Some(Answer { status: parts.status.as_u16(), body })
}

/// Templates with their area and resource filled in.
fn by_id(list: &Value, [id, area, resource, template]: [&str; 4]) -> BTreeMap<String, String> {
    let text = |one: &Value, name: &str| one[name].as_str().unwrap().to_owned();
    let filled = |one: &Value| {
        text(one, template)
            .trim_start_matches('/')
            .replace("{area}", &text(one, area))
            .replace("{resource}", &text(one, resource))
    };
    list.as_array().unwrap().iter().map(|one| (text(one, id), filled(one))).collect()
}
