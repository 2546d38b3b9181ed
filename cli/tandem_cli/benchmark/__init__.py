"""The load client behind `tandem bench`: it asks as many clients would, and says what they would see.

`arrivals` and `prompts` say when what is asked, `protocols` knows the APIs, `asking` does one request and `driving` all
of them. From there on everything is a pure function of the samples: `figures`, and how they are shown.
"""
