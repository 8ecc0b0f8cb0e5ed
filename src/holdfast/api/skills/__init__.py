"""The Skills API: declared skills, executed and streamed under `/v1`. Its specification is wire/skills.md."""
