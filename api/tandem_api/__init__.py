"""Every shape a user sees: InferenceService and its CRD, the OpenAI wire formats, the files of router and workers."""
