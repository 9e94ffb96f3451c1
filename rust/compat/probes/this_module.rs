// SPDX-License-Identifier: GPL-2.0
//! `THIS_MODULE` is had of the module's type.
use kernel::module::this_module;
