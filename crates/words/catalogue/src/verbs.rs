//! What clients may do with a kind or subresource.

/// One request verb as authorization and discovery name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Verb {
    /// POST of a new object.
    Create = 1,
    /// DELETE of one object.
    Delete = 1 << 1,
    /// DELETE of a collection.
    DeleteCollection = 1 << 2,
    /// GET of one object.
    Get = 1 << 3,
    /// GET of a collection.
    List = 1 << 4,
    /// PATCH of one object.
    Patch = 1 << 5,
    /// PUT of one object.
    Update = 1 << 6,
    /// GET of a collection as a stream of changes.
    Watch = 1 << 7,
}

impl Verb {
    /// All verbs in the order of discovery documents.
    pub const ALL: [Verb; 8] = [
        Verb::Create,
        Verb::Delete,
        Verb::DeleteCollection,
        Verb::Get,
        Verb::List,
        Verb::Patch,
        Verb::Update,
        Verb::Watch,
    ];

    /// The word of discovery documents and RBAC rules.
    pub const fn name(self) -> &'static str {
        match self {
            Verb::Create => "create",
            Verb::Delete => "delete",
            Verb::DeleteCollection => "deletecollection",
            Verb::Get => "get",
            Verb::List => "list",
            Verb::Patch => "patch",
            Verb::Update => "update",
            Verb::Watch => "watch",
        }
    }
}

/// A set of [`Verb`]s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verbs(u16);

impl Verbs {
    /// Everything that a stored kind offers.
    pub const STANDARD: Verbs = Verbs::of(&Verb::ALL);
    /// Kinds that are answers to questions, such as `TokenReview`.
    pub const CREATE: Verbs = Verbs::of(&[Verb::Create]);
    /// Subresources that are a view of the whole object, such as `status`.
    pub const VIEW: Verbs = Verbs::of(&[Verb::Get, Verb::Patch, Verb::Update]);

    /// The set of these verbs.
    pub const fn of(verbs: &[Verb]) -> Verbs {
        let (mut bits, mut at) = (0, 0);
        while at < verbs.len() {
            bits |= verbs[at] as u16;
            at += 1;
        }
        Verbs(bits)
    }

    /// The set without one verb.
    pub const fn without(self, verb: Verb) -> Verbs {
        Verbs(self.0 & !(verb as u16))
    }

    /// Whether the verb is offered.
    pub const fn contains(self, verb: Verb) -> bool {
        self.0 & verb as u16 != 0
    }

    /// The verbs in the order of discovery documents.
    pub fn iter(self) -> impl Iterator<Item = Verb> {
        Verb::ALL.into_iter().filter(move |verb| self.contains(*verb))
    }
}
