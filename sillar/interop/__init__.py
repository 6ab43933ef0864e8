"""Sillar in other people's tools; each module needs the library it is named after."""
