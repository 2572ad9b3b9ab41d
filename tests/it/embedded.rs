//! The private server: starts in any circumstance, and leaves nothing behind.

use crate::support::private_server;

#[tokio::test]
async fn a_first_start_makes_a_login_without_superuser_rights() {
    let Some(server) = private_server().await else { return };
    server.stop().await.unwrap();
}
