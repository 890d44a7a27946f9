//! Where a container may answer otherwise than a box of tier T1, and why that gives nothing away.

use libc::{EEXIST, EINVAL, ENOENT};

use crate::engine::probe::inside::{Attempted, Expect};
use crate::engine::probe::meets;

/// Id of the check, the answer that is as good, why.
type Allowance = (&'static str, Expect, &'static str);

/// Whatever the kernel.
const CONTAINER: &[Allowance] = &[
    ("I05", Expect::Refused(&[EINVAL]), "the box has a root without rights as well; O02 looks at whose ids they are"),
    ("I05-group", Expect::Refused(&[EINVAL]), "the box has a root without rights as well; O02 looks at whose ids they are"),
    ("F16", Expect::Within(0, 3), "the specification gives every container tty, ptmx and core"),
];

const MAP: &str = "the map is of the box's own kernel";
const UNTOLD: &str = "the box's own kernel does not tell";
const FLAG: &str = "the box's own kernel does not tell; the host's mount has it";
const FIRST: &str = "the first process of the box holds nothing that the box is not given";
const NODE: &str = "device numbers reach the box's own kernel only";
const GUEST: &str = "it concerns the box's own kernel only";

/// Where the box has a kernel of its own: what concerns that kernel alone is between it and the box.
const OWN_KERNEL: &[Allowance] = &[
    ("O02", Expect::Value(1), MAP),
    ("O02-group", Expect::Value(1), MAP),
    ("I02-amb", Expect::Refused(&[ENOENT]), UNTOLD),
    ("I03", Expect::Refused(&[ENOENT]), UNTOLD),
    ("I08", Expect::Value(1), FLAG),
    ("N21-fd", Expect::Value(0), FIRST),
    ("N21-maps", Expect::Within(1, i64::MAX), FIRST),
    ("W10", Expect::Value(0), FIRST),
    ("F14", Expect::Value(0), NODE),
    ("F15", Expect::Value(0), NODE),
    ("F15", Expect::Refused(&[EEXIST]), NODE),
    ("F16", Expect::Within(0, 16), GUEST),
    ("F18", Expect::Value(1), FLAG),
    ("F18-tmp", Expect::Value(1), GUEST),
    ("F19", Expect::Value(1), FLAG),
    ("F19-tmp", Expect::Value(1), GUEST),
    ("K07", Expect::Value(0), GUEST),
    ("K11", Expect::Value(0), GUEST),
    ("K14", Expect::Value(0), GUEST),
    ("S32", Expect::Value(1), GUEST),
    ("R07-nice", Expect::Value(0), "it concerns processes of the same box only; the host's quota holds for all of it"),
    ("R08", Expect::Value(0), "names in /tmp are memory of the box's own kernel, which the host's quota bounds"),
];

/// Why an answer that tier T1 would not accept is as good here, if it is.
pub(crate) fn why(id: &str, answer: Attempted, shared_kernel: bool) -> Option<&'static str> {
    let own = if shared_kernel { &[] } else { OWN_KERNEL };
    let mut all = CONTAINER.iter().chain(own);
    all.find(|(known, expect, _)| *known == id && meets(*expect, answer)).map(|(_, _, why)| *why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::probe::container;
    use crate::engine::probe::inside::GROUPS;

    #[test]
    fn every_allowance_is_for_a_check_and_a_shared_kernel_gets_few() {
        let known: Vec<&str> =
            GROUPS.iter().flat_map(|group| group.iter()).chain(container::CHECKS).map(|spec| spec.id).collect();
        for (id, ..) in CONTAINER.iter().chain(OWN_KERNEL) {
            assert!(known.contains(id), "{id}");
        }
        assert_eq!(why("F18", Ok(1), true), None);
        assert!(why("F18", Ok(1), false).is_some());
        assert_eq!(why("F18", Ok(2), false), None);
        assert!(why("I05", Err(EINVAL), true).is_some());
        assert_eq!(why("W01", Ok(0), false), None, "the host's network is never the box's own affair");
    }
}
