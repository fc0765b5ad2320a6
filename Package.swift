// swift-tools-version: 6.2
// SPDX-License-Identifier: Apache-2.0
import PackageDescription

let package = Package(
    name: "Suture",
    products: [
        // For C, C++ and Python, self-contained: `make lib` builds it with the flags it needs.
        .library(name: "suture", type: .dynamic, targets: ["SutureABI"]),
        // For Swift programs.
        .library(name: "Suture", targets: ["Suture"]),
    ],
    targets: [
        .systemLibrary(name: "COpenBLAS", pkgConfig: "openblas", providers: [.apt(["libopenblas-dev"])]),
        .systemLibrary(name: "CSuture", path: "Include"),
        .target(name: "CSutureKernels"),
        .target(name: "SutureNumerics", dependencies: ["CSutureKernels", "COpenBLAS"]),
        .target(name: "Suture", dependencies: ["SutureNumerics"]),
        .target(name: "SutureABI", dependencies: ["Suture", "CSuture"], exclude: ["exports.map"]),
        // What belongs to the process, and so to all tests: seed, threads, kernels.
        .target(
            name: "SutureTestSupport", dependencies: ["SutureNumerics", "CSutureKernels"],
            path: "Tests/SutureTestSupport"),
        .testTarget(
            name: "SutureNumericsTests", dependencies: ["SutureNumerics", "CSutureKernels", "SutureTestSupport"]),
        .testTarget(name: "SutureTests", dependencies: ["Suture", "SutureTestSupport"]),
        .testTarget(name: "SutureABITests", dependencies: ["SutureABI", "CSuture"]),
    ],
    swiftLanguageModes: [.v6]
)
