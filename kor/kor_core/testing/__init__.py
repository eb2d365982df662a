"""Doubles, an upstream and a conformance kit for applications and plugins that use KOR."""
