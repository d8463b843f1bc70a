//! `outlive-pg-private`: a PostgreSQL for as long as its standard input is open. It prints one line, the URL.

use outlive_pg_private::{Options, Server};
use std::io::Read as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    match Server::start(&Options::default()) {
        Ok(server) => {
            println!("{}", server.url("postgres"));
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            drop(server);
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("outlive-pg-private: {why}");
            ExitCode::FAILURE
        }
    }
}
