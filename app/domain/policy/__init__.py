"""The moderation policy: rules over scores and outcomes, read from a file, applied without eval, explained in words."""

from app.domain.policy.decide import (
    CLEARED,
    FLAGGED,
    flag_for,
    flag_id_of,
    past_of,
    past_outcome,
    past_verdict,
    published,
    subject_of,
)
from app.domain.policy.evaluate import RuleReport, Subject, Verdict, evaluate, report_rules
from app.domain.policy.parse import parse_policy
from app.domain.policy.references import check_references
from app.domain.policy.rules import (
    ACTIONS,
    NO_ACTION,
    AllOf,
    AnyOf,
    OutcomeTest,
    Policy,
    PolicyCase,
    Rule,
    ScoreTest,
    is_published,
    stronger,
)
from app.domain.policy.table import CaseFailure, run_cases

__all__ = [
    "ACTIONS",
    "CLEARED",
    "FLAGGED",
    "NO_ACTION",
    "AllOf",
    "AnyOf",
    "CaseFailure",
    "OutcomeTest",
    "Policy",
    "PolicyCase",
    "Rule",
    "RuleReport",
    "ScoreTest",
    "Subject",
    "Verdict",
    "check_references",
    "evaluate",
    "flag_for",
    "flag_id_of",
    "is_published",
    "parse_policy",
    "past_of",
    "past_outcome",
    "past_verdict",
    "published",
    "report_rules",
    "run_cases",
    "stronger",
    "subject_of",
]
