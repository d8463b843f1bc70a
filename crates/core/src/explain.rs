//! Why a run waits: the same predicates as the claim's, as codes and sentences.
