"""The demo: a catalogue of courses, and the story that buys some of them through the public API."""
