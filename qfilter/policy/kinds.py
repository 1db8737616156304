"""Every kind of mistake by its stable slug, with what it means. Each has an example in tests/unit/policy."""

from __future__ import annotations

from collections.abc import Mapping

KINDS: Mapping[str, str] = {
    # the file
    "unreadable": "the file cannot be opened or read",
    "encoding": "the file is not UTF-8",
    "too-large": "the file, or the number of its nodes, is above the limit",
    "yaml-syntax": "the text is not YAML",
    "control-character": "a character that YAML forbids, or a line break that editors do not show",
    "empty": "the file holds nothing",
    "several-documents": "a second YAML document in one file",
    "too-deep": "lists and mappings inside each other, deeper than the limit",
    "alias-bomb": "aliases expand to more nodes than the limit",
    "duplicate-key": "a key stands twice in one mapping",
    "key-type": "a key that is not text",
    "merge-key": "the merge key <<, which YAML 1.2 does not have",
    "tag": "a YAML tag, such as !!python/object",
    "yaml-trap": "YAML 1.1 would read this plain value as something else (no, 22:22, 010)",
    "writable": "a file that others can write, who could so change the policy (a warning)",
    "include": "an include leaves the policy's folder, matches no file, is cyclic or too deep",
    # the structure
    "unknown-key": "a key that does not belong here",
    "missing-key": "a key that must be here",
    "wrong-type": "a list, mapping, number or text was expected",
    "version": "the version is not 1",
    "duplicate-id": "two rules have the same id",
    # references
    "undefined": "a $reference to nothing, or a rule or set that does not exist",
    "unused": "a definition or set that nothing uses",
    "cyclic": "a definition that refers to itself",
    # values
    "unknown-field": "a field that the field table does not have",
    "unknown-name": "a name that the field, the verdict or the action does not know",
    "ambiguous-name": "a name that means two things",
    "out-of-range": "a number outside its field",
    "host-bits": "a prefix with bits set behind its length",
    "reversed-range": "a range whose end is below its start",
    "bad-value": "a value that the field cannot have (an address that is none, hex that is none)",
    "bad-regex": "a pattern that RE2 does not take",
    "wrong-form": "a comparison that this field does not have (contains on a number)",
    # sense
    "contradiction": "conditions that no packet can meet together",
    "unreachable": "a rule that never has a say: an earlier one decides all its packets, or its hook never comes",
    "repeat-loop": "a verdict repeat whose mark would send the packet round for ever",
    "exempt-blind": "a rule for contents or rates, whose later packets `queue.exempt` keeps from it",
    "plugin": "a Python condition that cannot be loaded, or whose file others can write",
    "test-failed": "a test of the policy has another outcome than it expects",
}
