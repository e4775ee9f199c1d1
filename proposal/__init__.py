"""Stage 1, where things are: class-agnostic mask proposals."""

from proposal.proposals import Proposals, Proposer

__all__ = ["Proposals", "Proposer"]
