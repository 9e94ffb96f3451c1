// SPDX-License-Identifier: GPL-2.0

//! The mount API: options as they come, mount, remount.

#![forbid(unsafe_code)]

use super::{
    draft::Draft,
    options::{
        First,
        Options, //
    },
    patience::Patience,
    reconfigure, //
};
use crate::fs::{
    objects::{
        cred::Cred,
        sb::State,
        section::Alone, //
    },
    operations::context::{
        Context,
        Mounted,
        Operations,
        Param, //
    }, //
};
use crate::logic::options::{
    self,
    Bad,
    Udba, //
};
use crate::mount_error;
use crate::union::{
    branches::branch::root_slots,
    state::{
        events,
        sb::SbInfo, //
    },
    types::{
        text,
        Union, //
    },
    views::{
        debugfs,
        global::Global,
        plink_maint::Registered,
        sysfs::Views, //
    }, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

impl Operations for Union {
    type Options = Options;

    fn options(_context: &Context<'_>) -> Result<KBox<Options>> {
        let changes = KVVec::new();
        Ok(KBox::new(
            Options {
                changes,
                first: None,
            },
            GFP_KERNEL_ACCOUNT,
        )?)
    }

    fn parse(
        context: &Context<'_>,
        options: &mut Options,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<Param> {
        match options::parse(key, value) {
            Ok(opt) => {
                options.take(context, key, opt)?;
                Ok(Param::Taken)
            }
            // Handled by the VFS.
            Err(Bad::Unknown) if key == b"source" => Ok(Param::Unknown),
            Err(Bad::Unknown) => Err(mount_error!(
                context,
                EINVAL,
                "unknown option \"{}\"",
                text(key)
            )),
            Err(Bad::NoMemory) => Err(ENOMEM),
            Err(Bad::Invalid { errno, why }) => Err(mount_error!(
                context,
                errno,
                "option \"{}\": {}",
                text(key),
                why
            )),
        }
    }

    fn mount(
        context: &Context<'_>,
        global: &Arc<Global>,
        options: &mut Options,
    ) -> Result<Mounted<Union>> {
        let cred = Arc::new(Cred::mounter()?, GFP_KERNEL)?;
        // It names the mount, nothing else.
        let si = crate::fs::objects::sb::random_id();
        let patience = Patience::new(context);
        let mut draft = Draft::new(context, &patience, &cred, si, global);
        draft.find_home(&options.changes)?;
        draft.take(&options.changes)?;
        let outcome = draft.finish()?;
        let slots = root_slots(&outcome.shape.table, &mut |branch| {
            patience.ask_root(&global.askers, &cred, branch)
        })?;
        let made = outcome.made;

        let order = &outcome.shape.table.order;
        let top = order.first().ok_or(EINVAL)?;
        let depth = order
            .iter()
            .map(|branch| branch.root.mount().stack_depth())
            .max()
            .unwrap_or(0)
            .saturating_add(1);
        let limits = top.root.mount().limits();
        let revalidate = outcome.shape.settings.udba != Udba::None;
        let as_aufs = context.type_name().to_bytes() == b"aufs";
        let maintenance = Registered::new(global, si)?;
        let views = Views::new(global, si)?;
        let debug = debugfs::Files::new(global, si, maintenance.links.clone())?;
        let waits = debug.stats().waits.clone();
        let data = SbInfo::new(&outcome.shape, cred, as_aufs, (views, debug), maintenance);
        let state = State::new(depth, waits, outcome.shape.clone(), data)?;
        options.first = Some(First { slots, made });
        Ok(Mounted {
            state,
            stack_depth: depth,
            limits,
            revalidate,
        })
    }

    fn reconfigure(
        context: &Context<'_>,
        options: &mut Options,
        alone: &mut Alone<'_, Union>,
    ) -> Result {
        events::remount(alone, |alone| {
            reconfigure::reconfigure(context, &options.changes, alone)
        })?;
        options.list_if_asked(context, alone.section());
        Ok(())
    }
}
