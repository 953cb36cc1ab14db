//! Tables for instructions.
#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;

fn one(text: &str) -> Result<Instruction> {
    let file = Dockerfile::parse(&format!("FROM x\n{text}"))?;
    Ok(file.steps[1].instruction.clone())
}

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn understands_instructions() {
    let shell = |text: &str| Command::Shell(text.into());
    let exec = |list: &[&str]| Command::Exec(texts(list));
    let run = |command| Instruction::Run { command, heredocs: Vec::new() };
    let rows = [
        ("run echo a  b", run(shell("echo a  b"))),
        ("RUN [\"echo\", \"a b\"]", run(exec(&["echo", "a b"]))),
        ("RUN [ -f x ] && echo", run(shell("[ -f x ] && echo"))),
        ("RUN ['a']", run(shell("['a']"))),
        (
            "ENV a=b c=\"d e\" f='g h' i=j\\ k",
            Instruction::Env(pairs(&[("a", "b"), ("c", "\"d e\""), ("f", "'g h'"), ("i", "j\\ k")])),
        ),
        ("ENV a b  c", Instruction::Env(pairs(&[("a", "b  c")]))),
        ("ENV a=", Instruction::Env(pairs(&[("a", "")]))),
        ("LABEL \"com.x/y\"=\"z\"", Instruction::Label(pairs(&[("\"com.x/y\"", "\"z\"")]))),
        ("ARG a b=c", Instruction::Arg(vec![("a".into(), None), ("b".into(), Some("c".into()))])),
        ("WORKDIR /a b", Instruction::Workdir("/a b".into())),
        ("EXPOSE 80 443/tcp", Instruction::Expose("80 443/tcp".into())),
        ("VOLUME /a /b", Instruction::Volume(texts(&["/a", "/b"]))),
        ("VOLUME [\"/a b\"]", Instruction::Volume(texts(&["/a b"]))),
        ("CMD", Instruction::Cmd(shell(""))),
        ("CMD []", Instruction::Cmd(exec(&[]))),
        ("ENTRYPOINT [\"/x\"]", Instruction::Entrypoint(exec(&["/x"]))),
        ("SHELL [\"/bin/bash\", \"-c\"]", Instruction::Shell(texts(&["/bin/bash", "-c"]))),
        ("MAINTAINER A B <a@b>", Instruction::Maintainer("A B <a@b>".into())),
        ("HEALTHCHECK NONE", Instruction::Healthcheck(None)),
        (
            "HEALTHCHECK --interval=1m30s --retries=3 CMD curl x",
            Instruction::Healthcheck(Some(Healthcheck {
                command: shell("curl x"),
                interval: Duration::from_secs(90),
                timeout: Duration::ZERO,
                start_period: Duration::ZERO,
                start_interval: Duration::ZERO,
                retries: 3,
            })),
        ),
    ];
    for (text, want) in rows {
        assert_eq!(one(text).unwrap(), want, "{text}");
    }
}

#[test]
fn understands_copy() {
    let copy = |sources: &[&str], destination: &str| Copy {
        sources: texts(sources),
        destination: destination.into(),
        heredocs: Vec::new(),
        from: Origin::Context,
        chown: None,
        chmod: None,
        unpack: false,
    };
    let rows = [
        ("COPY a b /c/", copy(&["a", "b"], "/c/")),
        ("COPY [\"a b\", \"c\"]", copy(&["a b"], "c")),
        (
            "COPY --from=build --chown=1:2 --chmod=755 --link /x /y",
            Copy {
                from: Origin::Image("build".into()),
                chown: Some("1:2".into()),
                chmod: Some("755".into()),
                ..copy(&["/x"], "/y")
            },
        ),
        ("ADD a.tar.gz /", Copy { unpack: true, ..copy(&["a.tar.gz"], "/") }),
    ];
    for (text, want) in rows {
        assert_eq!(one(text).unwrap(), Instruction::Copy(want), "{text}");
    }
    let Instruction::Copy(heredoc) = one("COPY <<EOF x /d/\nhello\nEOF").unwrap() else { panic!("COPY") };
    assert_eq!((heredoc.sources, heredoc.heredocs[0].content.as_str()), (texts(&["x"]), "hello\n"));
}

#[test]
fn understands_from() {
    for (text, image, name) in [
        ("FROM scratch", "scratch", None),
        ("from a:b As Build", "a:b", Some("build")),
        ("FROM --platform=linux/amd64 x AS y", "x", Some("y")),
    ] {
        let file = Dockerfile::parse(text).unwrap();
        let Instruction::From { image: got, name: as_name, .. } = &file.steps[0].instruction else {
            panic!("FROM")
        };
        assert_eq!((got.as_str(), as_name.as_deref()), (image, name), "{text}");
    }
    assert!(Dockerfile::parse("ARG V=1\nFROM x:$V").is_ok());
}

#[test]
fn says_what_it_does_not_understand() {
    let rows = [
        ("FROM x\nFOO bar", "line 2: unknown instruction: FOO"),
        ("FROM x\nRUN", "line 2: RUN requires at least one argument"),
        ("FROM a b", "line 1: FROM requires either one or three arguments"),
        ("FROM a AS 1", "invalid name for build stage"),
        ("RUN x\nFROM a", "line 1: no build stage in current context"),
        ("", "needs a FROM"),
        ("ARG a", "needs a FROM"),
        ("FROM x\nCOPY a", "COPY requires at least two arguments"),
        ("FROM x\nCOPY --parents a b", "COPY --parents is not supported"),
        ("FROM x\nRUN --mount=type=cache,target=/x a", "RUN --mount is not supported"),
        ("FROM x\nADD https://x/y /z", "ADD from https://x/y is not supported"),
        ("FROM x\nONBUILD RUN a", "ONBUILD is not supported"),
        ("FROM x\nENV a", "ENV must have two arguments"),
        ("FROM x\nENV a=b c", "can't find = in \"c\""),
        ("FROM x\nSHELL bash", "SHELL requires the arguments to be in JSON form"),
        ("FROM x\nHEALTHCHECK --interval=1y CMD a", "invalid duration \"1y\""),
        ("FROM x\nCOPY --from= a b", "COPY --from needs a value"),
    ];
    for (text, want) in rows {
        let error = Dockerfile::parse(text).unwrap_err().to_string();
        assert!(error.contains(want), "{text}: {error}");
    }
}

#[test]
fn durations_are_those_of_go() {
    for (text, millis) in [
        ("30s", Some(30_000)),
        ("1m30s", Some(90_000)),
        ("500ms", Some(500)),
        ("1.5h", Some(5_400_000)),
        ("", None),
        ("5", None),
        ("s", None),
    ] {
        assert_eq!(parse_duration(text).map(|d| d.as_millis()), millis, "{text}");
    }
}
