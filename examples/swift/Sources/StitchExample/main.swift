// SPDX-License-Identifier: Apache-2.0
// Fits a stitch from two arrays of activations and maps one row across.
//
//   swift run --package-path examples/swift
import Suture

// Residual streams of models A (2 wide) and B (3 wide) at the same six tokens, row by row.
let rowsA: [Float] = [0, 1, 1, 0, 1, 1, 2, 1, 0, 2, 2, 2]
let rowsB: [Float] = [1, 2, 3, 2, 1, 1, 2, 3, 2, 3, 4, 1, 1, 4, 4, 3, 6, 2]
let hA = try FloatMatrix(rows: 6, cols: 2, elements: rowsA)
let hB = try FloatMatrix(rows: 6, cols: 3, elements: rowsB)

// Means and second moments in one pass (call update as often as there is data), then the fit.
var moments = try Moments(dA: 2, dB: 3)
try moments.update(a: hA.view, b: hB.view)
let (stitch, report) = try Stitch.fit(moments, options: .init(alpha: 1))

let row: [Float] = [3, 1]
let mapped = try stitch.apply(.up, to: FloatMatrix(rows: 1, cols: 2, elements: row).view)
print("\(row) in A is \(Array(mapped.buffer)) in B; objective \(report.after.total)")
