//! The fronts of a service: machines that all serve the same store.

use axum::Router;
use squall_sim::Node;

/// The port of every front.
const PORT: u16 = 80;

/// Serves on every front.
pub fn serve(fronts: &[Node], router: impl Fn() -> Router) {
    for front in fronts {
        let router = router();
        front.start("http", |process| async move {
            squall_sim::http::serve(process, PORT, router).await.expect("nothing else listens there");
        });
    }
}
