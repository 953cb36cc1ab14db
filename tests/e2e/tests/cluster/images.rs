//! Images: built, moved as files, moved through a registry.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use plimsoll_e2e::{Background, Cluster, Outcome, get, program, run};

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
    let (_registry, address) = registry(cluster, "registry");
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

/// Makes an image of one layer, of which the cluster has nothing: its data lie in another directory.
fn made_elsewhere(cluster: &Cluster, image: &str) -> impl Fn(&[&str]) -> Outcome {
    let (elsewhere, folder) = (cluster.scratch().join("elsewhere"), cluster.scratch().join("noise"));
    fs::create_dir_all(&folder).unwrap();
    // Nothing that could be packed, so that the layer is by far the largest file.
    let noise: Vec<u8> =
        (0..1_u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 21).to_le_bytes()[0]).collect();
    fs::write(folder.join("noise"), noise).unwrap();
    fs::write(folder.join("Dockerfile"), "FROM scratch\nCOPY noise /\nCMD [\"/noise\"]\n").unwrap();
    let there = move |words: &[&str]| {
        let mut command = Command::new(program());
        command.arg("image").args(words).arg("--data-dir").arg(&elsewhere);
        run(&mut command, b"", PATIENCE)
    };
    there(&["build", "--tag", image, &folder.to_string_lossy()]).ok();
    there
}

/// Changes some bytes in the middle of a file.
fn damage(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 64].iter_mut().for_each(|byte| *byte ^= 0xff);
    fs::write(file, bytes).unwrap();
}

/// The largest file below a folder.
fn largest(folder: &Path) -> (u64, PathBuf) {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let of =
        |path: PathBuf| if path.is_dir() { largest(&path) } else { (path.metadata().unwrap().len(), path) };
    entries.map(of).max().unwrap_or_default()
}

pub(crate) fn a_damaged_image_hurts_its_own_pod_alone(shared: &Shared) {
    let space = shared.cluster().namespace("damaged");
    let cluster = space.cluster();
    space.apply(&format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: bystander}}, spec: {{terminationGracePeriodSeconds: 0, containers: [{{name: main, image: '{BUSYBOX}', command: [sleep, '1000']}}]}}}}"
    ));
    let (_registry, address) = registry(cluster, "damaged");
    let image = format!("{address}/team/damaged:1");
    let there = made_elsewhere(cluster, &image);
    there(&["push", "--plain-http", &image]).ok();
    damage(&largest(&cluster.scratch().join("damaged")).1);
    space.apply(&once("damaged", &image, "Always"));
    space.wait("an event tells what is wrong", || {
        let mut events =
            space.list("events").into_iter().filter(|it| it["involvedObject"]["name"] == "damaged");
        events.find(|event| event["message"].to_string().contains("content has digest sha256:"))
    });
    space.wait_object("it is tried again later", "pods/damaged", |pod| {
        pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "ImagePullBackOff"
    });
    assert!(!cluster.plimsoll("image ls", &[]).ok().contains("team/damaged"));

    // The same as a file.
    let archive = cluster.scratch().join("damaged.tar");
    there(&["save", "--output", &archive.to_string_lossy(), &image]).ok();
    damage(&archive);
    let text = cluster.plimsoll("image load", &["--input", &archive.to_string_lossy()]).refused();
    assert!(text.contains("content has digest sha256:"), "{text}");
    assert!(!cluster.plimsoll("image ls", &[]).ok().contains("team/damaged"));

    // Others neither notice nor wait.
    space.apply(&once("other", BUSYBOX, "IfNotPresent"));
    space.wait_ended("other");
    let bystander = space.wait_ready("bystander");
    assert_eq!(bystander["status"]["containerStatuses"][0]["restartCount"], 0);
}

/// A registry that nobody else has, at an address of this machine; its files lie in a folder of that name.
fn registry(cluster: &Cluster, name: &str) -> (Background, SocketAddr) {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let folder = cluster.scratch().join(name);
    let config = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\nhttp: {{addr: '{address}'}}\n",
        folder.display()
    );
    let file = cluster.scratch().join(format!("{name}.yml"));
    fs::write(&file, config).unwrap();
    let registry = Background::start(Command::new("docker-registry").arg("serve").arg(file));
    cluster.wait_for("the registry answers", PATIENCE, || get(address, "/v2/", Duration::from_secs(5)).ok());
    (registry, address)
}
