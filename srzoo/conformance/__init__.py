"""The conformance kit: what every component promises, as checks that run on any plugin.

``srzoo plugin check NAME`` runs it, and ``srzoo.testing.conformance`` within a plugin's own tests. A check is data: a
name, what it shows, the kinds it applies to, and a function that passes, fails or does not apply, with the reason.
Nothing is imported here: :mod:`srzoo.conformance.probe` runs in a process that must not have loaded torch.
"""
