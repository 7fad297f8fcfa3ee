"""Run the code of packages at their first use instead of at the import statement.

Importing a package of the table in `lazy_packages.py`, or a module below it, creates the module
without running its code. The first use of any of them, such as asking for a name or
`from package import name`, imports the package for real, then its modules that were imported
before, into the same module objects, which from then on are plain modules. If that fails, its error
is that of the import.

Some importers take a name when they are imported and use it much later. For these, and for no
others, the table lists the names: they get a stand-in, which is replaced in the importer by the
real object once the package is loaded.

This runs on the WebUI's Python 3.11, where it is not part of `scripts`, and imports nothing but the
standard library.
"""
