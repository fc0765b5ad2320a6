// SPDX-License-Identifier: Apache-2.0
// Fits a stitch from two arrays of activations and maps one row across.
//
//   swift run --package-path examples/swift
import Suture

print(sutureVersion)
