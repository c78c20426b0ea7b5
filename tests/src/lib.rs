//! Helpers of the tests that run the steps from outside.
