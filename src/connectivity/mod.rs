//! The connectivity test: plan (pure), run, verdict (pure).
