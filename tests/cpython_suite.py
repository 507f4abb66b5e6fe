"""Run CPython's own tests of ``http.server`` on hangup's classes: ``python tests/cpython_suite.py``.

``test.test_httpservers`` of the running interpreter is imported and run, with hangup's classes in the
place of the standard library's, as ``hangup run`` puts them there.  Each test passes, or stands below
with the reason.
The exit status is 0 if that is so, and 1 if a test fails that should not, or passes that is listed.
"""

import importlib
import io
import sys
import unittest

from hangup._cli.run import swap_classes

STRICT = "RFC 9112 §2.2, §3: a line that ends in bare LF, or has no version, is answered with 400"
LOGGED_AT_THE_END = (
    "the access log tells of a request when it has been answered, with the bytes that were sent;"
    " http.server writes its line first, with '-' for the size"
)
NO_TARGET = (
    "RFC 9112 §3.2: a target begins with a slash, or is a whole URI, without a fragment; else 400"
)
ANY_VERSION = "RFC 9110 §13.1.2: If-None-Match: * is false where there is a file; 304"
NO_QUERY = "the title of a listing is the directory's path, without the query, as from Python 3.14 on"
NAMES = "of the names that are in http.server, hangup's classes say that they are in hangup"
SAYS_WHY = "hangup.ConfigError says which file can't be used, and why"
NEEDS_SSL = "hangup needs Python's ssl to be imported at all"
#: What must fail, and why that is right.
DIFFERENT = {
    "BaseHTTPServerTestCase.test_request_line_trimming": STRICT,
    "BaseHTTPServerTestCase.test_version_none_get": STRICT,
    "SimpleHTTPServerTestCase.test_path_without_leading_slash": NO_TARGET,
    "SimpleHTTPServerTestCase.test_browser_cache_with_If_None_Match_header": ANY_VERSION,
    "SimpleHTTPServerTestCase.test_list_dir_with_query_and_fragment": NO_TARGET,
    "RequestHandlerLoggingTestCase.test_err": LOGGED_AT_THE_END,
    "MiscTestCase.test_all": NAMES,
    "BaseHTTPSServerTestCase.test_invalid_certdata": SAYS_WHY,
    "TestSSLDisabled.test_https_server_raises_runtime_error": NEEDS_SSL,
    **{f"HTTP09ServerTestCase.test_{name}": STRICT for name in ("invalid_request", "simple_get",
                                                                "single_request")},
}  # fmt: skip
#: What may pass or fail: the test looks at the log in the moment when the answer arrives; or is skipped.
UNCERTAIN = {
    "RequestHandlerLoggingTestCase.test_get": LOGGED_AT_THE_END,
    "RequestHandlerColorizedLoggingTestCase.test_get": LOGGED_AT_THE_END,
    "RequestHandlerColorizedLoggingTestCase.test_err": LOGGED_AT_THE_END,
    "SimpleHTTPServerTestCase.test_undecodable_parameter": NO_QUERY,  # until Python 3.13
    "CGIHTTPServerTestCase.test_no_leading_slash": NO_TARGET,  # skipped for root
}


def short(test: unittest.TestCase) -> str:
    """``Case.test_name``, of each subtest too."""
    return ".".join(getattr(test, "test_case", test).id().split(".")[-2:])


class Result(unittest.TextTestResult):
    """Knows which tests there are: not each Python has all of them."""

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        started.add(short(test))


started: set[str] = set()


def main() -> int:
    # The classes must be there before the module derives its handlers from them.
    swap_classes()
    try:
        module = importlib.import_module("test.test_httpservers")
    except ImportError as error:
        print(f"this Python has no test.test_httpservers: {error}")
        return 2
    suite = unittest.defaultTestLoader.loadTestsFromModule(module)
    runner = unittest.TextTestRunner(stream=io.StringIO(), verbosity=0, resultclass=Result)
    result = runner.run(suite)
    failed = {short(test): trace for test, trace in [*result.failures, *result.errors]}
    bad = {name: trace for name, trace in failed.items() if name not in {**DIFFERENT, **UNCERTAIN}}
    stale = [name for name in DIFFERENT if name in started and name not in failed]
    for name, trace in bad.items():
        print(f"FAILED {name}\n{trace}")
    for name in stale:
        print(f"PASSES {name}: take it off the list")
    for test, reason in result.skipped:
        print(f"skipped {short(test)}: {reason}")
    for name, reason in {**DIFFERENT, **UNCERTAIN}.items():
        if name in started:
            print(f"differs {name}: {reason}")
    passed = result.testsRun - len(result.skipped) - len(failed)
    print(f"Python {sys.version.split()[0]}: {passed} passed, {len(bad)} failed")
    return 1 if bad or stale or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
