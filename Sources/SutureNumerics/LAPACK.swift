// SPDX-License-Identifier: Apache-2.0
import COpenBLAS

/// The few factorisations in use, in float64 on row-major memory. Call within
/// `BLAS.singleThreaded`. LAPACK reads column by column, so what is upper here is lower there.
public enum LAPACK {
    /// Eigenvalues of a symmetric matrix, ascending; its rows become the eigenvectors. Only the upper
    /// triangle is read.
    ///
    /// - Throws: `numerical` if the iteration does not converge; `outOfMemory`.
    public static func eigenvalues(vectorsInto matrix: DoubleMatrix, wantVectors: Bool = true) throws -> [Double] {
        var n = Int32(matrix.rows)
        var values = [Double](repeating: 0, count: matrix.rows)
        var info: Int32 = 0
        var (size, integerSize) = (-1.0, Int32(-1))
        var (query, integerQuery) = (Int32(-1), Int32(-1))
        let job = wantVectors ? "V" : "N"
        dsyevd_(job, "L", &n, matrix.pointer, &n, &values, &size, &query, &integerSize, &integerQuery, &info)
        guard info == 0 else { throw SutureError.internal("dsyevd refused argument \(-info)") }
        query = Int32(size)
        integerQuery = integerSize
        let work = try DoubleMatrix(rows: 1, cols: Int(query))
        var integers = [Int32](repeating: 0, count: Int(integerSize))
        dsyevd_(job, "L", &n, matrix.pointer, &n, &values, work.pointer, &query, &integers, &integerQuery, &info)
        guard info == 0, values.allSatisfy(\.isFinite) else {
            throw SutureError.numerical("the eigenvalues of a \(n) x \(n) matrix did not converge (dsyevd \(info))")
        }
        return values
    }

    /// The same in float32, of an (n, n) matrix.
    ///
    /// - Throws: `numerical` if the iteration does not converge; `outOfMemory`.
    public static func eigenvalues(vectorsInto matrix: UnsafeMutablePointer<Float>, n: Int) throws -> [Float] {
        var order = Int32(n)
        var values = [Float](repeating: 0, count: n)
        var info: Int32 = 0
        var (size, integerSize) = (Float(-1), Int32(-1))
        var (query, integerQuery) = (Int32(-1), Int32(-1))
        ssyevd_("V", "L", &order, matrix, &order, &values, &size, &query, &integerSize, &integerQuery, &info)
        guard info == 0 else { throw SutureError.internal("ssyevd refused argument \(-info)") }
        // A float32 may have rounded the size down: 1 + 6 n + 2 n² is what the routine asks for.
        query = Int32(clamping: max(Int(size), 1 + 6 * n + 2 * n * n))
        integerQuery = integerSize
        // Two floats fit in the place of a double.
        let work = try DoubleMatrix(rows: 1, cols: Int(query) / 2 + 1)
        var integers = [Int32](repeating: 0, count: Int(integerSize))
        work.pointer.withMemoryRebound(to: Float.self, capacity: Int(query)) { memory in
            ssyevd_("V", "L", &order, matrix, &order, &values, memory, &query, &integers, &integerQuery, &info)
        }
        guard info == 0, values.allSatisfy(\.isFinite) else {
            throw SutureError.numerical("the eigenvalues of a \(n) x \(n) matrix did not converge (ssyevd \(info))")
        }
        return values
    }

    /// Upper triangular R with Rᵀ R = S, in place of S, with zeros below; false if S is not positive
    /// definite (then the content is worthless). Only the upper triangle is read.
    public static func cholesky(_ matrix: DoubleMatrix) -> Bool {
        var n = Int32(matrix.rows)
        var info: Int32 = 0
        dpotrf_("L", &n, matrix.pointer, &n, &info)
        guard info == 0 else { return false }
        for row in 1..<max(1, matrix.rows) { (matrix.pointer + row * matrix.cols).update(repeating: 0, count: row) }
        return (0..<matrix.rows).allSatisfy { matrix[$0, $0].isFinite }
    }

    /// Numerical rank of a positive semi-definite matrix, by Cholesky factorisation with complete
    /// pivoting: the number of pivots above `tolerance`. Destroys the matrix.
    public static func rank(destroying matrix: DoubleMatrix, tolerance: Double) throws -> Int {
        var n = Int32(matrix.rows)
        var (rank, info) = (Int32(0), Int32(0))
        var limit = tolerance
        var pivots = [Int32](repeating: 0, count: matrix.rows)
        let work = try DoubleMatrix(rows: 2, cols: matrix.rows)
        dpstrf_("L", &n, matrix.pointer, &n, &pivots, &rank, &limit, work.pointer, &info)
        guard info >= 0 else { throw SutureError.internal("dpstrf refused argument \(-info)") }
        return Int(rank)
    }

    /// Singular values, descending. Destroys the matrix.
    ///
    /// - Throws: `numerical` if the iteration does not converge; `outOfMemory`.
    public static func singularValues(destroying matrix: DoubleMatrix) throws -> [Double] {
        // The transpose, as LAPACK sees it, has the same ones.
        var (m, n, one) = (Int32(matrix.cols), Int32(matrix.rows), Int32(1))
        var values = [Double](repeating: 0, count: min(matrix.rows, matrix.cols))
        var integers = [Int32](repeating: 0, count: 8 * values.count)
        var (size, query, info) = (0.0, Int32(-1), Int32(0))
        dgesdd_("N", &m, &n, matrix.pointer, &m, &values, nil, &one, nil, &one, &size, &query, &integers, &info)
        guard info == 0 else { throw SutureError.internal("dgesdd refused argument \(-info)") }
        query = Int32(size)
        let work = try DoubleMatrix(rows: 1, cols: Int(query))
        dgesdd_(
            "N", &m, &n, matrix.pointer, &m, &values, nil, &one, nil, &one, work.pointer, &query, &integers, &info)
        guard info == 0, values.allSatisfy(\.isFinite) else {
            throw SutureError.numerical("the singular values of a \(n) x \(m) matrix did not converge (dgesdd \(info))")
        }
        return values
    }

    /// The thin singular value decomposition U diag(values) V of an (m, n) matrix, with r = min(m, n):
    /// U (m, r), values descending, V (r, n) whose rows are the right vectors. Destroys the matrix.
    ///
    /// - Throws: `numerical` if the iteration does not converge; `outOfMemory`.
    public static func singularVectors(destroying matrix: DoubleMatrix) throws -> (
        u: DoubleMatrix, values: [Double], v: DoubleMatrix
    ) {
        // LAPACK sees the transpose, Vᵀ diag(values) Uᵀ, and its results column by column.
        var (m, n) = (Int32(matrix.cols), Int32(matrix.rows))
        var r = min(m, n)
        let u = try DoubleMatrix(rows: matrix.rows, cols: Int(r))
        let v = try DoubleMatrix(rows: Int(r), cols: matrix.cols)
        var values = [Double](repeating: 0, count: Int(r))
        var integers = [Int32](repeating: 0, count: 8 * Int(r))
        var (size, query, info) = (0.0, Int32(-1), Int32(0))
        dgesdd_(
            "S", &m, &n, matrix.pointer, &m, &values, v.pointer, &m, u.pointer, &r, &size, &query, &integers, &info)
        guard info == 0 else { throw SutureError.internal("dgesdd refused argument \(-info)") }
        query = Int32(size)
        let work = try DoubleMatrix(rows: 1, cols: Int(query))
        dgesdd_(
            "S", &m, &n, matrix.pointer, &m, &values, v.pointer, &m, u.pointer, &r, work.pointer, &query, &integers,
            &info)
        guard info == 0, values.allSatisfy(\.isFinite) else {
            throw SutureError.numerical("the singular values of a \(n) x \(m) matrix did not converge (dgesdd \(info))")
        }
        return (u, values, v)
    }
}
