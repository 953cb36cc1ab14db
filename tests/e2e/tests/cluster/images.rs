//! Images: built, moved as files, moved through a registry.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::time::Duration;

use plimsoll_e2e::{Background, Cluster, get};

use crate::{BUSYBOX, PATIENCE, Shared};

/// Builds `text` as `image` with a file `in.txt` in its context.
fn build(cluster: &Cluster, image: &str, text: &str, options: &[&str]) {
    let folder = cluster.scratch().join(image.replace(['/', ':'], "-"));
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("in.txt"), "from the context\n").unwrap();
    fs::write(folder.join("Dockerfile"), text).unwrap();
    let folder = folder.to_string_lossy();
    cluster.plimsoll("image build", &[&["--tag", image], options, &[&folder]].concat()).ok();
}

/// A pod that runs the image as it is and ends.
fn once(name: &str, image: &str, policy: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{restartPolicy: Never, containers: [{{name: main, image: '{image}', imagePullPolicy: {policy}}}]}}}}"
    )
}

pub(crate) fn an_image_is_built_in_stages(shared: &Shared) {
    let space = shared.cluster().namespace("build");
    let text = format!(
        "ARG BASE={BUSYBOX}
FROM $BASE AS maker
ARG WORD=nothing
WORKDIR /made
COPY in.txt .
RUN tr a-z A-Z < in.txt > out.txt && echo $WORD >> out.txt
RUN [\"sh\", \"-c\", \"mkdir -p /made/deep && ln -s ../out.txt /made/deep/link\"]

FROM $BASE
LABEL org.example.kind=test
ENV NAME=value PLACE=/srv/data
WORKDIR $PLACE
COPY --from=maker --chown=1000:1000 /made/ ./
USER 1000
EXPOSE 8080
ENTRYPOINT [\"sh\", \"-c\"]
CMD [\"pwd; id -u; cat deep/link; stat -c %u out.txt; echo $NAME\"]
"
    );
    build(space.cluster(), "plimsoll.test/staged:1", &text, &["--build-arg", "WORD=something"]);
    space.apply(&once("staged", "plimsoll.test/staged:1", "Never"));
    space.wait_ended("staged");
    let text = space.kubectl(&["logs", "staged"]).ok();
    assert_eq!(text, "/srv/data\n1000\nFROM THE CONTEXT\nsomething\n1000\nvalue\n");
    let listed = space.cluster().plimsoll("image ls", &[]).ok();
    assert!(listed.contains("plimsoll.test/staged"), "{listed}");

    let folder = space.cluster().scratch().join("broken");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("Dockerfile"), "FROM scratch\nCOPY absent /\n").unwrap();
    let text = space
        .cluster()
        .plimsoll("image build", &["--tag", "plimsoll.test/broken:1", &folder.to_string_lossy()])
        .refused();
    assert!(text.contains("absent"), "{text}");
}

pub(crate) fn images_travel_by_archive(shared: &Shared) {
    let space = shared.cluster().namespace("archive");
    let cluster = space.cluster();
    build(
        cluster,
        "plimsoll.test/boxed:1",
        &format!("FROM {BUSYBOX}\nCMD [\"echo\", \"out of the box\"]\n"),
        &[],
    );
    let archive = cluster.scratch().join("boxed.tar");
    cluster.plimsoll("image save", &["--output", &archive.to_string_lossy(), "plimsoll.test/boxed:1"]).ok();
    cluster.plimsoll("image rm", &["plimsoll.test/boxed:1"]).ok();
    assert!(!cluster.plimsoll("image ls", &[]).ok().contains("plimsoll.test/boxed"));
    cluster.plimsoll("image load", &["--input", &archive.to_string_lossy()]).ok();
    cluster.plimsoll("image tag", &["plimsoll.test/boxed:1", "plimsoll.test/other:2"]).ok();
    space.apply(&once("boxed", "plimsoll.test/other:2", "Never"));
    space.wait_ended("boxed");
    assert_eq!(space.kubectl(&["logs", "boxed"]).ok(), "out of the box\n");
}

pub(crate) fn images_travel_by_registry(shared: &Shared) {
    let space = shared.cluster().namespace("registry");
    let cluster = space.cluster();
    let (_registry, address) = registry(cluster);
    let image = format!("{address}/team/app:1");
    build(cluster, &image, &format!("FROM {BUSYBOX}\nCMD [\"echo\", \"pulled\"]\n"), &[]);
    cluster.plimsoll("image push", &["--plain-http", &image]).ok();
    cluster.plimsoll("image rm", &[&image]).ok();
    cluster.plimsoll("image pull", &["--plain-http", &image]).ok();
    cluster.plimsoll("image rm", &[&image]).ok();
    // The node pulls what it does not have.
    space.apply(&once("pulled", &image, "Always"));
    space.wait_ended("pulled");
    assert_eq!(space.kubectl(&["logs", "pulled"]).ok(), "pulled\n");
    let message = space.wait_event("pulled", "Pulled")["message"].clone();
    assert!(
        message.as_str().unwrap().starts_with(&format!("Successfully pulled image \"{image}\" in ")),
        "{message}"
    );
    let pod = space.object("pods/pulled").unwrap();
    let id = pod["status"]["containerStatuses"][0]["imageID"].as_str().unwrap();
    assert!(id.contains("@sha256:"), "{id}");
}

/// A registry that nobody else has, at an address of this machine.
fn registry(cluster: &Cluster) -> (Background, SocketAddr) {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let folder = cluster.scratch().join("registry");
    let config = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\nhttp: {{addr: '{address}'}}\n",
        folder.display()
    );
    let file = cluster.scratch().join("registry.yml");
    fs::write(&file, config).unwrap();
    let registry = Background::start(Command::new("docker-registry").arg("serve").arg(file));
    cluster.wait_for("the registry answers", PATIENCE, || get(address, "/v2/", Duration::from_secs(5)).ok());
    (registry, address)
}
