-- Runs that wait for a release are few and may wait for days: whoever asks what is stuck finds them at once.
CREATE INDEX run_held ON run (seq) WHERE state = 0;
