use super::*;

fn read_all(pairs: &[(&str, &str)]) -> (Settings, Vec<(String, String)>) {
    let pairs = pairs.iter().map(|(name, value)| (format!("{PREFIX}{name}"), (*value).to_owned()));
    Settings::of(&pairs.collect())
}

#[test]
fn annotations_say_what_ingress_nginx_says() {
    type Look = fn(&Settings) -> String;
    let redirect: Look = |settings| format!("{:?}", settings.redirect);
    let size: Look = |settings| format!("{:?}", settings.body_size);
    let times: Look = |settings| {
        format!("{:?} {:?} {:?}", settings.connect_timeout, settings.read_timeout, settings.send_timeout)
    };
    let limits: Look = |settings| {
        let rate = |rate: Option<Rate>| rate.map(|rate| (rate.amount, rate.burst));
        let limits = &settings.limits;
        format!("{:?} {:?} {:?}", limits.connections, rate(limits.per_second), rate(limits.per_minute))
    };
    let cookie: Look = |settings| {
        settings.affinity.as_ref().map_or("none".to_owned(), |affinity| affinity.set("x", "/", false))
    };
    let canary: Look = |settings| {
        let canary = settings.canary.as_ref();
        canary.map_or("none".to_owned(), |canary| {
            format!("{}/{} {}", canary.weight, canary.total, canary.sticky)
        })
    };
    type Row<'a> = (&'a [(&'a str, &'a str)], Look, &'a str);
    let table: &[Row<'_>] = &[
        (&[], redirect, "WithCertificate"),
        (&[("ssl-redirect", "false")], redirect, "Never"),
        (&[("ssl-redirect", "false"), ("force-ssl-redirect", "true")], redirect, "Always"),
        (&[], size, "Some(1048576)"),
        (&[("proxy-body-size", "8m")], size, "Some(8388608)"),
        (&[("proxy-body-size", "0")], size, "None"),
        (&[], times, "5s 60s 60s"),
        (
            &[("proxy-connect-timeout", "1"), ("proxy-read-timeout", "2s"), ("proxy-send-timeout", "3")],
            times,
            "1s 2s 3s",
        ),
        (&[], limits, "None None None"),
        (
            &[("limit-rps", "10"), ("limit-rpm", "60"), ("limit-connections", "7")],
            limits,
            "Some(7) Some((10, 50)) Some((60, 300))",
        ),
        (&[("limit-rps", "10"), ("limit-burst-multiplier", "2")], limits, "None Some((10, 20)) None"),
        (&[("limit-rps", "0")], limits, "None None None"),
        (&[("session-cookie-name", "c")], cookie, "none"),
        (&[("affinity", "cookie")], cookie, "INGRESSCOOKIE=x; Path=/; HttpOnly"),
        (
            &[("affinity", "cookie"), ("session-cookie-name", "c"), ("session-cookie-max-age", "9")],
            cookie,
            "c=x; Path=/; Max-Age=9; HttpOnly",
        ),
        (&[("canary-weight", "9")], canary, "none"),
        (&[("canary", "true"), ("canary-weight", "9")], canary, "9/100 true"),
        (&[("canary", "true"), ("canary-weight", "9"), ("canary-weight-total", "10")], canary, "9/10 true"),
        (&[("canary", "true"), ("affinity-canary-behavior", "legacy")], canary, "0/100 false"),
    ];
    for (pairs, look, expected) in table {
        let (settings, problems) = read_all(pairs);
        assert_eq!(look(&settings), *expected, "{pairs:?}");
        assert!(problems.is_empty(), "{problems:?}");
    }
}

#[test]
fn what_cannot_be_read_is_told_and_protects() {
    let table = [
        ("proxy-body-size", "big", false),
        ("proxy-read-timeout", "0", false),
        ("ssl-redirect", "maybe", false),
        ("affinity", "ip", false),
        ("session-cookie-name", "a;b", false),
        ("session-cookie-change-on-failure", "perhaps", false),
        ("affinity-canary-behavior", "loose", false),
        ("canary-by-header-pattern", "(", false),
        ("backend-protocol", "FCGI", false),
        ("limit-rps", "-1", false),
        ("server-snippet", "return 200;", false),
        ("whitelist-source-range", "10.0.0.0/99", true),
        ("denylist-source-range", "x", true),
    ];
    for (name, value, unusable) in table {
        let (settings, problems) = read_all(&[(name, value)]);
        assert_eq!(problems.len(), 1, "{name}: {problems:?}");
        assert!(problems[0].0.ends_with(name));
        assert_eq!(settings.unusable, unusable, "{name}");
    }
}
