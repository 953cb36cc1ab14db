//! Prints the graph of controllers: as text, or for Graphviz when the first argument is `dot`.

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match plimsoll_controllers::graph() {
        Ok(graph) if std::env::args().nth(1).as_deref() == Some("dot") => print!("{}", graph.dot()),
        Ok(graph) => print!("{graph}"),
        Err(error) => {
            eprintln!("graph: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
