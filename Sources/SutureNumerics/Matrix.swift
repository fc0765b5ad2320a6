// SPDX-License-Identifier: Apache-2.0
import COpenBLAS

/// A dense row-major matrix of its own memory: solvers use `Matrix<Double>`, weights `Matrix<Float>`.
/// Made within the package only, where shapes are known to be right.
public struct Matrix<Element: BinaryFloatingPoint & Sendable>: Sendable, Equatable {
    public let rows: Int
    public let cols: Int
    public var elements: [Element]

    package init(rows: Int, cols: Int, elements: [Element]) {
        precondition(elements.count == rows * cols, "internal: element count does not match the shape")
        self.rows = rows
        self.cols = cols
        self.elements = elements
    }

    package init(zeros rows: Int, _ cols: Int) {
        self.init(rows: rows, cols: cols, elements: [Element](repeating: 0, count: rows * cols))
    }

    public subscript(row: Int, col: Int) -> Element {
        get { elements[row * cols + col] }
        set { elements[row * cols + col] = newValue }
    }

    public var transposed: Matrix {
        var result = Matrix(zeros: cols, rows)
        // Blocks of 32 keep both sides in cache.
        elements.withUnsafeBufferPointer { source in
            result.elements.withUnsafeMutableBufferPointer { target in
                for rowBlock in stride(from: 0, to: rows, by: 32) {
                    for colBlock in stride(from: 0, to: cols, by: 32) {
                        for row in rowBlock..<min(rowBlock + 32, rows) {
                            for col in colBlock..<min(colBlock + 32, cols) {
                                target[col * rows + row] = source[row * cols + col]
                            }
                        }
                    }
                }
            }
        }
        return result
    }

    /// Converted to another element type, rounded to nearest where needed.
    public func converted<Other: BinaryFloatingPoint & Sendable>(to type: Other.Type) -> Matrix<Other> {
        Matrix<Other>(rows: rows, cols: cols, elements: elements.map { Other($0) })
    }
}

extension Matrix where Element == Double {
    package static func identity(_ n: Int) -> Matrix {
        var result = Matrix(zeros: n, n)
        for i in 0..<n { result[i, i] = 1 }
        return result
    }
}
