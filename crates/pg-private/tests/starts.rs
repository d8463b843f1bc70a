//! The starter itself.

use outlive_pg_private::{Bouncer, Database, Options, Server, Template};

#[test]
fn a_server_starts_answers_survives_a_crash_and_leaves_nothing() {
    let mut server = Server::start(&Options { settings: vec!["work_mem = 8MB".to_owned()], tls: None }).unwrap();
    let admin = server.url("postgres");
    assert_eq!(server.sql("postgres", "SHOW work_mem").unwrap(), "8MB");
    assert_eq!(server.sql("postgres", "SHOW fsync").unwrap(), "on");
    assert!(server.sql("postgres", "SELECT 1/0").unwrap_err().contains("division by zero"));
    let fill = |url: &str| {
        assert!(url.contains("127.0.0.1"));
        Ok(())
    };
    let template = Template { name: "made_once".to_owned(), fill };
    let one = Database::copy_of(&admin, &template).unwrap();
    let two = Database::copy_of(&admin, &template).unwrap();
    one.sql("CREATE TABLE kept (n int); INSERT INTO kept VALUES (7)").unwrap();
    assert!(two.sql("SELECT n FROM kept").is_err());
    server.crash_and_restart().unwrap();
    assert_eq!(one.sql("SELECT n FROM kept").unwrap(), "7");
    let bouncer = Bouncer::start(&server, 2).unwrap();
    let through = bouncer.url(one.name());
    assert!(through.starts_with("postgres://"));
    let (name, folder) = (one.name().to_owned(), server.folder().to_owned());
    drop((one, two));
    let left = server.sql("postgres", &format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'"));
    assert_eq!(left.unwrap(), "0");
    drop(bouncer);
    drop(server);
    assert!(!folder.exists());
}
