//! What can be said in the query of requests, and the media types of their bodies.

pub(super) const OBJECTS: [&str; 4] =
    ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf", "application/cbor"];
pub(super) const STREAMS: [&str; 3] = [
    "application/json;stream=watch",
    "application/vnd.kubernetes.protobuf;stream=watch",
    "application/cbor-seq",
];
pub(super) const PATCHES: [&str; 5] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
    "application/apply-patch+cbor",
];

/// (name, type, what it does).
pub(super) type Parameter = (&'static str, &'static str, &'static str);

pub(super) const DRY_RUN: Parameter = ("dryRun", "string", "`All` checks the request and changes nothing.");
pub(super) const PRETTY: Parameter =
    ("pretty", "string", "`true` asks for an answer with line ends and indentation.");
pub(super) const WRITE: [Parameter; 3] = [
    DRY_RUN,
    ("fieldManager", "string", "Name of the program or person that owns the fields that are written."),
    ("fieldValidation", "string", "What is done about unknown and doubled fields: Ignore, Warn or Strict."),
];
pub(super) const FORCE: Parameter = ("force", "boolean", "Lets apply take over fields that others own.");
pub(super) const DELETE: [Parameter; 5] = [
    DRY_RUN,
    ("gracePeriodSeconds", "integer", "Seconds until the object is gone; 0 is at once."),
    (
        "ignoreStoreReadErrorWithClusterBreakingPotential",
        "boolean",
        "Deletes an object that cannot be read any more.",
    ),
    ("orphanDependents", "boolean", "Older word for propagationPolicy."),
    ("propagationPolicy", "string", "What happens to dependents: Orphan, Background or Foreground."),
];
pub(super) const LIST: [Parameter; 10] = [
    ("allowWatchBookmarks", "boolean", "Asks for events that tell how far a watch has come."),
    ("continue", "string", "Where the list before this one ended."),
    ("fieldSelector", "string", "Selects objects by fields."),
    ("labelSelector", "string", "Selects objects by labels."),
    ("limit", "integer", "Most objects in one answer."),
    ("resourceVersion", "string", "State that the answer must not be older than, or begin at."),
    ("resourceVersionMatch", "string", "How resourceVersion is meant: Exact or NotOlderThan."),
    ("sendInitialEvents", "boolean", "Begins a watch with the present objects."),
    ("timeoutSeconds", "integer", "Seconds after which the answer ends."),
    ("watch", "boolean", "Asks for changes instead of a list."),
];

pub(super) const EXEC: [Parameter; 6] = [
    ("command", "string", "The program and its arguments."),
    ("container", "string", "Which container; the first if there is one."),
    ("stderr", "boolean", "Carries the standard error."),
    ("stdin", "boolean", "Carries the standard input."),
    ("stdout", "boolean", "Carries the standard output."),
    ("tty", "boolean", "Gives the program a terminal."),
];

pub(super) const LOG: [Parameter; 9] = [
    ("container", "string", "Which container; the first if there is one."),
    ("follow", "boolean", "Goes on while the container runs."),
    ("insecureSkipTLSVerifyBackend", "boolean", "Does not check the node's certificate."),
    ("limitBytes", "integer", "Most bytes of the answer."),
    ("previous", "boolean", "The log of the run before."),
    ("sinceSeconds", "integer", "Only what is younger."),
    ("stream", "string", "All, Stdout or Stderr."),
    ("tailLines", "integer", "Only the last lines."),
    ("timestamps", "boolean", "Begins each line with its time."),
];
