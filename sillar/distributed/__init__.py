"""Sillar on many machines; each part needs the library it is named after."""
