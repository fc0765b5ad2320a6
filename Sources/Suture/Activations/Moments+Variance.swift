// SPDX-License-Identifier: Apache-2.0

extension Moments {
    /// Mean variance per coordinate of each stream; 0 before any token.
    public var meanVariances: (a: Double, b: Double) {
        guard tokens > 0 else { return (0, 0) }
        func mean(_ coordinates: Range<Int>) -> Double {
            coordinates.reduce(0) { $0 + scatter[$1, $1] } / Double(tokens) / Double(coordinates.count)
        }
        return (mean(0..<dA), mean(dA..<width))
    }
}
