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
        .testTarget(name: "SutureNumericsTests", dependencies: ["SutureNumerics", "CSutureKernels"]),
        .testTarget(name: "SutureTests", dependencies: ["Suture"]),
        .testTarget(name: "SutureABITests", dependencies: ["SutureABI", "CSuture"]),
    ],
    swiftLanguageModes: [.v6]
)
